"""`mnemos listen units`: sounds become units, units rows, and rows tokens that a language model has rows for."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.sources import audio, units
from tests.tiny import save_tiny
from tests.tiny_speech import sound, tiny_ctc, tiny_whisper


def invoke(*words: str | Path) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def rows_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clips/, rows.jsonl of them, an encoder `ears`, and units fitted on it."""
    root = tmp_path_factory.mktemp("units")
    (root / "clips").mkdir()
    rows = []
    for number in range(6):
        audio.write(sound(0.3 + 0.05 * number, number), root / "clips" / f"{number}.wav")
        rows.append({"audio": f"clips/{number}.wav", "text": f"word {number}", "speaker": f"s{number % 2}"})
    rows += [
        {"audio": "clips/gone.wav", "text": "gone"},
        {"audio": "clips/0.wav", "text": "he typed <|unit_1|>"},
        {"audio": "clips/1.wav", "text": "<1> is no unit"},
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny_whisper(root / "ears")
    invoke("listen", "units", "fit", root / "rows.jsonl", "--encoder", root / "ears", "--layer", "1", "--clusters", "8",
           "--normalise", "standard", "--out", root / "units")  # fmt: skip
    return root


def test_units_are_fitted_on_rows_and_on_folders(world: Path, tmp_path: Path) -> None:
    found = json.loads(
        invoke("listen", "units", "fit", world / "clips", "--encoder", world / "ears", "--layer", "2", "--clusters",
               "5", "--frames", "50", "--json", "--out", tmp_path / "u")
    )  # fmt: skip
    # 0.3 to 0.55 s at 50 frames a second: 15, 18, 20, 23, 25 and 28.
    assert (found["clips"], found["frames"], found["fitted"]["frames"]) == (6, 129, 50)
    assert (found["layer"], found["layers"], found["width"], found["left_out"]) == (2, 2, 16, {})
    kept = json.loads((world / "units" / "units.json").read_text())
    assert (kept["layer"], kept["clusters"], kept["normalisation"]) == (1, 8, "standard")


def test_rows_are_written_with_merged_repeats_and_what_is_left_out_is_counted(world: Path, tmp_path: Path) -> None:
    words = invoke("listen", "units", "encode", world / "rows.jsonl", "--units", world / "units", "--counts", "--out",
                   tmp_path / "rows.jsonl")  # fmt: skip
    assert "7 rows" in words
    assert "left out, no such file: 1" in words
    assert "left out, text that spells a unit: 1" in words
    rows = rows_of(tmp_path / "rows.jsonl")
    assert [row["completion"] for row in rows] == [*(f"word {n}" for n in range(6)), "<1> is no unit"]
    assert rows[0]["speaker"] == "s0"
    for row, frames in zip(rows, [15, 18, 20, 23, 25, 28, 18], strict=True):
        found = units.units_of(row["prompt"])
        assert all(a != b for a, b in itertools.pairwise(found))
        # Counts keep how long each unit lasts, which merging destroys.
        assert len(units.repeated(found, row["counts"])) == frames
    total = sum(len(units.units_of(row["prompt"])) for row in rows)
    seconds = sum(row_seconds for row_seconds in (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.35))
    assert f"{147 / seconds:.1f} units a second, {total / seconds:.1f} where repeats are merged" in words


def test_other_forms_and_a_folder_without_transcripts(world: Path, tmp_path: Path) -> None:
    invoke("listen", "units", "encode", world / "clips", "--units", world / "units", "--form", "continue", "--out",
           tmp_path / "c.jsonl")  # fmt: skip
    assert [row["id"] for row in rows_of(tmp_path / "c.jsonl")] == [str(n) for n in range(6)]
    invoke("listen", "units", "encode", world / "rows.jsonl", "--units", world / "units", "--form", "speak", "--chat",
           "--limit", "2", "--out", tmp_path / "s.jsonl")  # fmt: skip
    first = rows_of(tmp_path / "s.jsonl")[0]["messages"]
    assert first[0]["content"].endswith("word 0")
    assert units.units_of(first[1]["content"])
    asked = [{"audio": str(world / "clips" / "0.wav"), "question": "Who speaks?", "answer": "a machine"}]
    (tmp_path / "asked.jsonl").write_text(json.dumps(asked[0]) + "\n")
    invoke("listen", "units", "encode", tmp_path / "asked.jsonl", "--units", world / "units", "--out",
           tmp_path / "a.jsonl")  # fmt: skip
    (row,) = rows_of(tmp_path / "a.jsonl")
    assert row["prompt"].startswith("Who speaks?\nThis is input: <|unit_")
    assert row["completion"] == "a machine"
    with pytest.raises(DataError, match=r"no transcript: 6"):
        invoke("listen", "units", "encode", world / "clips", "--units", world / "units", "--out", tmp_path / "no.jsonl")


def test_another_encoder_is_refused_and_the_same_one_elsewhere_is_not(world: Path, tmp_path: Path) -> None:
    import shutil

    place = ("listen", "units", "encode", world / "rows.jsonl", "--units", world / "units", "--limit", "1")
    moved = shutil.copytree(world / "ears", tmp_path / "moved")
    invoke(*place, "--encoder", moved, "--out", tmp_path / "same.jsonl")
    for other in (tiny_whisper(tmp_path / "other", seed=1), tiny_ctc(tmp_path / "hubert", "hubert")):
        with pytest.raises(ModelError, match="is not the encoder that these units were fitted on"):
            invoke(*place, "--encoder", other, "--out", tmp_path / "no.jsonl")
    with pytest.raises(UsageError, match="is there already"):
        invoke(*place, "--out", tmp_path / "same.jsonl")
    assert not (tmp_path / "no.jsonl").exists()


def test_a_model_gets_units_as_tokens_that_nothing_else_becomes(world: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = save_tiny(tmp_path / "model")
    (tmp_path / "old.jsonl").write_text(json.dumps({"text": "Old text, <12> and <|unit_x|>."}) + "\n")
    words = invoke("tokenizer", "extend", "--model", model, "--tokens", world / "units" / "tokens.txt", "--init",
                   "mean", "--old", tmp_path / "old.jsonl", "--suppress", "--out", tmp_path / "extended")  # fmt: skip
    assert "8 new pieces" in words
    assert "0 of 1 old texts have other ids" in words
    assert "never written: suppress_tokens" in words
    tokenizer, before = AutoTokenizer.from_pretrained(tmp_path / "extended"), AutoTokenizer.from_pretrained(model)
    ids = [tokenizer.convert_tokens_to_ids(units.token(n)) for n in range(8)]
    text = f"x{units.text_of([3, 1, 3])}y"
    found = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [one for one in found if one in ids] == [ids[3], ids[1], ids[3]]
    # Not special: they stay when special tokens are left out.
    assert tokenizer.decode(found, skip_special_tokens=True) == text
    assert all(not tokenizer.added_tokens_decoder[one].special for one in ids)
    assert all(not tokenizer.added_tokens_decoder[one].normalized for one in ids)
    for plain in ("<12>", "<1>", "<|unit_9|>", "<|UNIT_1|>", "< |unit_1|>"):
        assert tokenizer(plain)["input_ids"] == before(plain)["input_ids"]
    old, new = (
        AutoModelForCausalLM.from_pretrained(p).get_input_embeddings().weight for p in (model, tmp_path / "extended")
    )
    assert (new[: len(old)] == old).all()
    assert (new[ids] - old.mean(0)).abs().max() < 0.01 * old.std()
    assert len({tuple(row) for row in new[ids].tolist()}) == 8
    assert json.loads((tmp_path / "extended" / "generation_config.json").read_text())["suppress_tokens"] == ids


def test_tokens_that_cannot_be_added_are_refused(world: Path, tmp_path: Path) -> None:
    model, tokens = save_tiny(tmp_path / "model"), tmp_path / "tokens.txt"
    place = ("tokenizer", "extend", "--model", model, "--out", tmp_path / "out", "--tokens", tokens)
    for text, why in (("a\na", "is named twice|is there already"), ("<new>\n<new>", "is named twice"),
                      ("", "must be from 1"), (" <new>", "white space"), ("<|eos|>", "is there already")):  # fmt: skip
        tokens.write_text(text)
        with pytest.raises(UsageError, match=why):
            invoke(*place)
    tokens.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8"):
        invoke(*place)
    tokens.write_text(units.token(0))
    with pytest.raises(UsageError, match="needs text of a language"):
        invoke(*place, "--init", "focus")
    with pytest.raises(UsageError, match="name one of the two"):
        invoke(*place, "--text", "x")
    (tmp_path / "old.txt").write_text("somebody typed <|unit_0|>")
    with pytest.raises(DataError, match="1 of 1 texts of the old language"):
        invoke(*place, "--old", tmp_path / "old.txt")
    assert not (tmp_path / "out").exists()


def test_a_normaliser_cannot_touch_a_token(tmp_path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

    from mnemos.sources.tokenizer.extend import added

    core = Tokenizer(models.WordLevel({"[unk]": 0, "unit": 1, "one": 2}, unk_token="[unk]"))
    core.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("|", "")])
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = added(core, ["<|unit_0|>", "<|unit_1|>"])
    first, second = made.ids
    assert made.tokenizer.encode("one <|unit_1|><|unit_0|>").ids == [2, second, first]
    # What the normaliser would make the same text of is none of them …
    assert not {first, second} & set(made.tokenizer.encode("<unit_1> <|UNIT_1|> <|Unit_0|>").ids)
    # … as it is for the tokens that transformers' own defaults make.
    core.add_tokens([AddedToken("<|unit_1|>", normalized=True)])
    assert core.token_to_id("<|unit_1|>") in core.encode("<unit_1>").ids
