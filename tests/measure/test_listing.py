"""What `mnemos suites` lists."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.measure.kinds import KINDS
from mnemos.measure.listing import built_in, kinds


def test_every_kind_has_its_settings_and_every_shipped_suite_its_items() -> None:
    rows = {row["name"]: row for row in kinds()}
    assert set(rows) == set(KINDS)
    generated = {setting["name"]: setting for setting in rows["generated"]["settings"]}
    assert generated["max_new_tokens"]["default"] == 64
    assert generated["max_new_tokens"]["bounds"].startswith(">= 1")
    assert all(setting["description"] for row in rows.values() for setting in row["settings"])
    shipped = {row["name"]: row for row in built_in()}
    assert shipped["refusals"]["kind"] == "refusal"
    assert all(row["items"] > 0 for row in shipped.values())


def test_the_command_lists_them() -> None:
    output = CliRunner().invoke(app, ["suites"]).stdout
    assert "refusals" in output
    assert "compare an answer with references" in output
    assert "max_new_tokens: integer, >= 1" in CliRunner().invoke(app, ["suites", "generated"]).stdout
    assert json.loads(CliRunner().invoke(app, ["suites", "choice", "--json"]).stdout)["kinds"][0]["name"] == "choice"
