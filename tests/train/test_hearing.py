"""Training on audio rows through the one loop: CTC and token by token, with the arms of the catalogue."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperProcessor

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

import mnemos.methods  # noqa: F401 - fills the catalogue
from mnemos.core.errors import UsageError
from mnemos.core.method import apply
from mnemos.core.plan import Plan, Transcripts
from mnemos.core.settings import TrainSettings
from mnemos.models.load import Checkpoint
from mnemos.models.recognisers.load import load
from mnemos.sources import audio
from mnemos.sources.read import read
from mnemos.train.likelihood import train
from mnemos.weights.checkpoint import load_tokenizer, named
from tests.tiny_speech import sound, tiny_ctc, tiny_whisper, tiny_whisper_ctc

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


def rows(folder: Path, texts: Sequence[str], name: str = "rows", seconds: float = 0.4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, text in enumerate(texts):
        audio.write(sound(seconds + 0.05 * (number % 3), number), folder / f"{name}-{number}.wav")
        lines.append(json.dumps({"audio": f"{name}-{number}.wav", "text": text}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder / f"{name}.jsonl"


def plan(model: Path, data: Path, arm: Sequence[dict[str, Any]] = (), **settings: Any) -> Plan:
    asked = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "bf16": False, **settings}
    made = Plan(
        examples=read(str(data)),
        before=Checkpoint(str(model)),
        task="new",
        seed=0,
        train=TrainSettings(**asked),
        draw=Transcripts(),
    )
    return apply(made, list(arm))


def weights(folder: str) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in load(folder, device="cpu").network.named_parameters()}


TEXTS = ["one two", "three", "four", "five six"]


@pytest.mark.parametrize("make", [tiny_ctc, tiny_whisper, tiny_whisper_ctc])
def test_a_step_is_a_step_down_the_loss_of_the_protocol(make: Any, tmp_path: Path) -> None:
    model, data = make(tmp_path / "m"), rows(tmp_path, TEXTS)
    done = train(
        plan(model, data, max_steps=1, per_device_train_batch_size=4, optim="sgd", max_grad_norm=0.0), tmp_path / "out"
    )
    ears = load(model, device="cpu")
    clips = [audio.read(tmp_path / f"rows-{n}.wav", rate=16_000) for n in range(4)]
    # The loss that an adapter of the protocol would take: nats a target token over the whole batch.
    loss = ears.loss(clips, TEXTS)
    assert done.losses[-1][1] == pytest.approx(float(loss.detach()), rel=1e-4)
    loss.backward()
    after = weights(done.model)
    for name, parameter in ears.network.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(after[name], parameter.detach() - 1e-2 * parameter.grad, atol=1e-5), name
    # What was saved is complete: it hears, and writes.
    assert len(load(done.model, device="cpu").transcribe(clips)) == 4


def test_a_model_that_hears_padding_learns_the_same_from_any_batch(tmp_path: Path) -> None:
    model, data = tiny_ctc(tmp_path / "m", norm="group"), rows(tmp_path, TEXTS)
    together = train(plan(model, data, per_device_train_batch_size=4, optim="sgd"), tmp_path / "a")
    apart = train(
        plan(model, data, per_device_train_batch_size=1, gradient_accumulation_steps=4, optim="sgd"), tmp_path / "b"
    )
    assert together.losses[-1][1] == pytest.approx(apart.losses[-1][1], rel=1e-4)
    a, b = weights(together.model), weights(apart.model)
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)


ARMS: dict[str, list[dict[str, Any]]] = {
    "lora": [{"lora": {"rank": 2}}],
    "freeze conv": [{"freeze": {"pattern": "feature_extractor|conv1|conv2"}}],
    "l2": [{"l2_to_before": {"coefficient": 0.1}}],
    "weights": [{"weights": {"expression": "before + 0.5*(after - before)"}}],
}


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    "make",
    [
        tiny_whisper_ctc,
        pytest.param(tiny_ctc, marks=pytest.mark.slow),
        pytest.param(tiny_whisper, marks=pytest.mark.slow),
    ],
)
def test_remedies_act_on_recognisers(make: Any, arm: str, tmp_path: Path) -> None:
    model, data = make(tmp_path / "m"), rows(tmp_path, TEXTS)
    done = train(plan(model, data, ARMS[arm]), tmp_path / "out")
    before, after = weights(str(model)), weights(done.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    if arm == "freeze conv":
        assert not any("feature_extractor" in name or ".conv1." in name or ".conv2." in name for name in moved)
    if arm in ("weights",):
        plain = weights(train(plan(model, data), tmp_path / "plain").model)
        assert all(torch.allclose(after[n], (before[n] + plain[n]) / 2, atol=1e-6) for n in before)


@pytest.mark.parametrize("fisher", ["empirical", "model"])
def test_ewc_takes_squares_of_whole_transcripts(fisher: str, tmp_path: Path) -> None:
    model, data = tiny_whisper_ctc(tmp_path / "m"), rows(tmp_path, TEXTS)
    old = rows(tmp_path, ["old", "words"], "old")
    arm = [{"ewc": {"coefficient": 20.0, "data": str(old), "fisher": fisher}}]
    settings = {"per_device_train_batch_size": 4, "optim": "sgd", "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    done = train(plan(model, data, arm, learning_rate=1e-3, max_steps=2, **settings), tmp_path / "out")
    after = weights(done.model)
    if fisher == "model":
        plain = train(plan(model, data, learning_rate=1e-3, max_steps=2, **settings), tmp_path / "plain")
        assert any(not torch.equal(after[name], one) for name, one in weights(plain.model).items())
        return
    ears = load(model, device="cpu")
    named = dict(ears.network.named_parameters())
    start = {name: one.detach().clone() for name, one in named.items()}

    def heard(name: str, number: int) -> audio.Clip:
        return audio.read(tmp_path / f"{name}-{number}.wav", rate=16_000)

    # The mean over rows of the square of one row's gradient: -ln p of the whole transcript, at the start.
    squares = {name: torch.zeros_like(one) for name, one in named.items()}
    for number, text in enumerate(["old", "words"]):
        nll = ears.nll(ears.features([heard("old", number)]), [ears.spell(text).ids])[0]
        for name, found in zip(named, torch.autograd.grad(nll, list(named.values()), allow_unused=True), strict=True):
            squares[name] += 0 if found is None else found.square() / 2
    for _ in range(2):
        ears.network.zero_grad()
        ears.loss([heard("rows", number) for number in range(4)], TEXTS).backward()
        with torch.no_grad():
            for name, one in named.items():
                pull = 20.0 * squares[name] * (one - start[name])
                one -= 1e-3 * (pull if one.grad is None else one.grad + pull)
    # That the pull is seen: far above the tolerance somewhere.
    pulls = [20.0 * squares[name] * (one.detach() - start[name]) for name, one in named.items()]
    assert max(float(pull.abs().max()) for pull in pulls) > 1
    for name, one in named.items():
        assert torch.allclose(after[name], one, atol=2e-4, rtol=1e-3), name


def test_statistics_of_batch_normalisation_stay_as_they_came(tmp_path: Path) -> None:
    model, data = tiny_ctc(tmp_path / "m", "parakeet"), rows(tmp_path, TEXTS, seconds=1.5)
    before = load(str(model), device="cpu").network.state_dict()
    assert any(name.endswith("running_mean") for name in before)
    heads = [{"only": {"pattern": "ctc_head"}}]
    after = load(
        train(plan(model, data, heads), tmp_path / "head", quiet=True).model, device="cpu"
    ).network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"ctc_head.weight", "ctc_head.bias"}
    # Merging checks that an adapter's logits are those of the model that was trained.
    given = plan(model, data, [{"lora": {"rank": 2, "targets": ["q_proj", "v_proj"]}}], keep_merged=True, max_steps=8)
    train(given, tmp_path / "merged", quiet=True)


@pytest.mark.parametrize("arm", [[], [{"lora": {"rank": 2, "targets": ["q_proj", "v_proj"]}}]])
def test_what_makes_features_is_kept_and_named(arm: list[dict[str, Any]], tmp_path: Path) -> None:
    """As transformers 5 writes a processor: what makes features within processor_config.json."""
    model, data = tiny_whisper(tmp_path / "m"), rows(tmp_path, TEXTS)
    features = WhisperFeatureExtractor.from_pretrained(model)
    (model / "preprocessor_config.json").unlink()
    WhisperProcessor(features, load_tokenizer(str(model))).save_pretrained(model)
    assert not (model / "preprocessor_config.json").exists()
    after = Path(train(plan(model, data, arm, max_steps=1), tmp_path / "out", quiet=True).model)
    assert load(str(after), device="cpu").rate == features.sampling_rate
    for folder in (model, after):
        file, name = folder / "processor_config.json", named(str(folder))
        settings = json.loads(file.read_text(encoding="utf-8"))
        settings["feature_extractor"]["hop_length"] //= 2
        file.write_text(json.dumps(settings), encoding="utf-8")
        assert named(str(folder)) != name


def test_replay_mixes_sounds(tmp_path: Path) -> None:
    model, data = tiny_ctc(tmp_path / "m"), rows(tmp_path, TEXTS)
    arm = [{"replay": {"data": str(rows(tmp_path, ["a", "b", "c"], "old")), "share_of_final": 0.4}}]
    done = train(plan(model, data, arm), tmp_path / "out")
    assert done.counts["origin replay"] > 0


def test_what_cannot_be_learned_is_counted(tmp_path: Path) -> None:
    model = tiny_whisper_ctc(tmp_path / "m")
    data = rows(tmp_path, ["one", "\u4f60\u597d", "x" * 200, "two\u00e9 three", "four"])
    audio.write(audio.Clip(np.zeros(8_000, np.float32), 16_000), tmp_path / "rows-4.wav")
    done = train(plan(model, data), tmp_path / "out")
    assert {name: count for name, count in done.counts.items() if "left out" in name or "lacks" in name} == {
        "left out: a transcript in another script than the vocabulary": 1,
        "left out: more characters than the sound has frames for": 1,
        "left out: silent": 1,
        "characters that the vocabulary lacks": 1,
    }
    assert done.counts["examples"] == 2


def test_a_killed_training_continues_to_the_same_numbers(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Killed(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                raise KeyboardInterrupt

    model, data = tiny_ctc(tmp_path / "m"), rows(tmp_path, TEXTS)
    made = plan(model, data, max_steps=5, save_steps=1)
    whole = train(made, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "killed", callbacks=[Killed()], quiet=True)
    again = train(made, tmp_path / "killed")
    assert again.losses == whole.losses
    a, b = weights(whole.model), weights(again.model)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_methods_on_tokens_are_refused_for_ctc(tmp_path: Path) -> None:
    model, data = tiny_ctc(tmp_path / "m"), rows(tmp_path, TEXTS)
    with pytest.raises(UsageError, match="learns a transcript whole"):
        train(plan(model, data, [{"token_mask": {"masked_share": 0.2}}]), tmp_path / "out")
    with pytest.raises(UsageError, match="single tokens"):
        train(plan(model, data, [{"kl_to_before": {"coefficient": 0.1}}]), tmp_path / "b")


def test_drawn_transcripts_follow_the_model() -> None:
    """Sampled Fisher: transcripts are drawn from p(transcript | sound), by whole distributions over short paths."""
    import itertools

    from mnemos.models.recognisers.decoding import collapsed
    from mnemos.train.documents import MicroBatch, Pass
    from mnemos.train.hearing import Heard

    logits = torch.tensor([[[0.2, 1.0, 0.1], [0.5, 0.3, 0.9]]])
    empty = torch.zeros(1, dtype=torch.long)
    batch = MicroBatch((Pass({}, torch.tensor([2]), (1,)),), empty, torch.ones(1), empty)
    heard = Heard((logits,), batch, 0)
    p = logits[0].softmax(-1).numpy()
    expected: Counter[tuple[int, ...]] = Counter()
    for path in itertools.product(range(3), repeat=2):
        expected[tuple(collapsed(path, 0))] += float(p[0, path[0]] * p[1, path[1]])  # type: ignore[assignment]
    found = Counter(tuple(heard._drawn(logits[0], [0, n])) for n in range(1000))
    for text, probability in expected.items():
        assert found[text] / 1000 == pytest.approx(probability, abs=0.06)


def test_text_alone_is_spoken_and_what_is_real_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synth2Real (arXiv:2406.02925): after + scale * (real - synthetic), of recognisers, tensor by tensor."""
    from tests.methods.test_sound import program

    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    model, real, made = (tiny_whisper_ctc(tmp_path / name, seed=n) for n, name in enumerate(("m", "real", "made")))
    (tmp_path / "texts.jsonl").write_text('{"text": "one two"}\n{"text": "three"}')
    spoken = {"tts": {"command": f"{program(tmp_path)} {{out}}", "voices": ["a"]}}
    expression = "after + 0.5*(real - made)"
    vector = {"weights": {"expression": expression, "models": {"real": str(real), "made": str(made)}}}
    plain, repaired = (
        train(plan(model, tmp_path / "texts.jsonl", arm), tmp_path / name)
        for name, arm in (("plain", [spoken]), ("repaired", [spoken, vector]))
    )
    assert plain.counts["examples"] == 2
    after, a, b = weights(plain.model), weights(str(real)), weights(str(made))
    found = weights(repaired.model)
    assert all(torch.allclose(found[name], after[name] + 0.5 * (a[name] - b[name]), atol=1e-5) for name in after)
