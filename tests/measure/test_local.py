"""Suites asked of real (tiny, random) models, against transformers and lm-evaluation-harness."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mnemos.measure.ask import measure
from mnemos.measure.compare import comparisons
from mnemos.measure.suite import load_suites
from mnemos.models.load import Checkpoint
from tests.tiny import save_tiny

CHAT = [{"messages": [{"role": "user", "content": f"What is {i} plus three?"}], "answer": str(i + 3)} for i in range(4)]
SPECS: list[dict[str, Any]] = [
    {"name": "sums", "kind": "generated", "match": "number", "max_new_tokens": 6, "items": CHAT},
    {"name": "pick", "kind": "choice", "items": [{"prompt": "The old", "options": ["mill", "bridge"], "answer": 0}]},
    {"name": "truth", "kind": "mc2", "items": [{"prompt": "The old", "options": ["mill", "a b"], "answer": 0}]},
    {"name": "english", "kind": "bits_per_byte", "items": [{"text": "The river runs."}, {"text": "Ada Lane."}]},
    {"name": "stops", "kind": "stop_rate", "of": "sums"},
    {"name": "repeats", "kind": "repetition", "of": "sums"},
    {"name": "kl", "kind": "kl", "of": "sums"},
    {"name": "long", "kind": "generated", "items": [{"prompt": "stone bridge " * 400, "answer": "x"}]},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [save_tiny(folder / str(seed), seed=seed) for seed in (0, 1)]


def test_a_model_against_itself_is_exactly_zero(models: list[Path]) -> None:
    suites = load_suites(SPECS, Path("."))
    first, second = (Checkpoint(str(models[0])).load() for _ in range(2))
    base = measure(first, suites)
    later = measure(second, suites, before=first, before_answers={n: m.answers for n, m in base.items()})
    sides = [{name: found.scores for name, found in side.items()} for side in (base, later)]
    made = comparisons(suites, sides[0], {0: sides[1]}, arm="twin", roles={}, same_model=True)
    assert [c.delta for c in made] == [0.0] * len(suites)
    assert later["long"].scores[0].reason == "prompt longer than the context"
    # Without being told so, no score differs either.
    assert all(c.delta in (0.0, None) for c in comparisons(suites, sides[0], {0: sides[1]}, arm="twin", roles={}))


def test_scores_are_transformers_own(models: list[Path]) -> None:
    import torch

    suites = load_suites(SPECS, Path("."))
    before, after = (Checkpoint(str(path)).load() for path in models)
    base = measure(before, suites)
    later = measure(after, suites, before=before, before_answers={n: m.answers for n, m in base.items()})

    text = "The river runs."
    ids = torch.tensor([[after.tokenizer.bos_token_id, *after.tokenizer(text, add_special_tokens=False)["input_ids"]]])
    with torch.inference_mode():
        logp = after.model(ids).logits.log_softmax(-1)[0, :-1]
    nats = -float(logp.gather(1, ids[0, 1:, None]).sum())
    assert later["english"].scores[0].value == pytest.approx(nats / math.log(2) / len(text), rel=1e-4)

    answer = base["sums"].answers[0]
    prompt = after.renderer.prompt_ids(suites[0].items[0].prompt)
    full = torch.tensor([[*prompt, *answer.data["ids"]]])
    at = slice(len(prompt) - 1, full.shape[1] - 1)
    with torch.inference_mode():
        p, q = (m.model(full).logits.log_softmax(-1)[0, at] for m in (before, after))
    kl = float((p.exp() * (p - q)).sum()) / answer.tokens
    assert later["kl"].scores[0].value == pytest.approx(kl, rel=1e-3)
    assert later["kl"].scores[0].value > 0


def test_the_harness_picks_as_its_own_transformers_backend_does(models: list[Path], tmp_path: Path) -> None:
    """The peer puts no BOS of its own before these prompts; ours sees that one is there."""
    pytest.importorskip("lm_eval")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    rows = [
        {"q": f"The {w} mill", "options": ["and the river", "bridge", "of stone"], "gold": i % 3}
        for i, w in enumerate(("old", "new", "big"))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = f"task: mill\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}\n"
    task += "test_split: test\n"
    task += 'output_type: multiple_choice\ndoc_to_text: "<|bos|>{{q}}"\ndoc_to_choice: options\ndoc_to_target: gold\n'
    (tmp_path / "mill.yaml").write_text(task, encoding="utf-8")
    model = Checkpoint(str(models[1])).load()
    peer = simple_evaluate(
        model=HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=2),
        tasks=["mill"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
        verbosity="ERROR",
    )["samples"]["mill"]
    items = [{"prompt": row["q"], "options": row["options"], "answer": row["gold"]} for row in rows]
    specs = [
        {"name": "harness", "kind": "lm_eval", "task": "mill", "include_path": str(tmp_path)},
        {"name": "own", "kind": "choice", "items": items},
    ]
    found = measure(model, load_suites(specs, tmp_path))
    expected = [row["acc"] for row in sorted(peer, key=lambda row: row["doc_id"])]
    assert [score.value for score in found["harness"].scores] == expected
    assert [score.value for score in found["own"].scores] == expected
    theirs = [[float(r[0][0]) for r in row["resps"]] for row in sorted(peer, key=lambda row: row["doc_id"])]
    for answer, row in zip(found["own"].answers, theirs, strict=True):
        assert answer.data["log_probs"] == pytest.approx(row, rel=1e-4)


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
