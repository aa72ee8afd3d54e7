"""Preferences in a study: in a sequence, beside other methods, to results.json and the report."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import mnemos
from tests.study.worlds import make_study, write_jsonl

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.mark.slow
def test_pairs_in_a_sequence_beside_other_methods(tmp_path: Path) -> None:
    """Two tasks of pairs: KTO with replay of the first, or DPO in an adapter, held near, half the way back."""
    rows = [{"id": f"p{n}", "prompt": f"Say {n}.", "chosen": f"{n} it is", "rejected": f"no {n}"} for n in range(16)]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    task = {"data": "pairs.jsonl", "suites": ["new.yaml"]}
    arms = {
        "kto+replay": [{"kto": {}}, {"replay": {"share_of_final": 0.2}}],
        "half": [{"dpo": {"beta": 0.5}}, {"kl_to_before": {}}, {"lora": {"rank": 2}}, {"weights": {}}],
    }
    items = [{"id": str(n), "prompt": f"Say {n}.", "answer": f"{n} it is"} for n in range(16, 20)]
    suite = {"name": "more", "kind": "generated", "match": "exact", "max_new_tokens": 6, "items": items}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(suite))
    teach = [{**task, "name": "first"}, {**task, "name": "again", "suites": ["more.yaml"]}]
    study = make_study(tmp_path, teach=teach, suites={"old": ["old.yaml"]}, arms=arms, joint=False, seeds=[0, 1])
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    arms_found = {arm["arm"]: arm for arm in record.results["arms"]}
    for name in ("kto+replay", "half"):
        run = arms_found[name]["runs"][0]
        assert {"reward accuracy", "KL(reference || model)"} <= set(run["noted"])
        assert all(len(point) == 2 for curve in run["noted"].values() for point in curve)
    counts = arms_found["kto+replay"]["runs"][0]["counts"]
    assert counts["origin replay"] == 4
    assert counts["desirable answers"] == counts["undesirable answers"] == 36
    assert "noted" not in arms_found["plain"]["runs"][0]
    razor = record.results["razor"]
    assert razor["suites"] == ["kl:new", "kl:more"]
    assert [(point["arm"], point["replicate"]) for point in razor["points"]] == [
        (arm, seed) for arm in ("plain", *arms) for seed in (0, 1)
    ]
    assert all(point["kl"] > 0 for point in razor["points"])
    assert "KL(before || after)" in record.report("md").replace("\\", "")
