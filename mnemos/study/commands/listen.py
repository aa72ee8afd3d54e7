"""`mnemos listen`: language models that listen, made and asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.nouns import AudioPart, Decoding, Generation, Prompt, TextPart, Turn


@dataclass(frozen=True)
class New:
    """What `mnemos listen new` is given. settings: of the bridge, by name. words: before and behind a sound."""

    language: str
    out: Path
    encoder: str | None
    bridge: str
    settings: Mapping[str, Any]
    recogniser: str | None = None
    cascade: bool = False
    window: float = 30.0
    words: tuple[str, str] = ("", "")
    seed: int = 0


def new(asked: New) -> str:
    """Write the directory, and return what it is in a line.

    Raises UsageError for a place that is taken and options that cannot be meant together, ModelError for parts that do
    not fit.
    """
    from mnemos.models.speech.bridges import bridge_of
    from mnemos.models.speech.files import make
    from mnemos.train.save import whole

    if asked.out.exists():
        raise UsageError(f"{asked.out}", "is there already", "name another place with --out, or remove it")
    if asked.cascade and (asked.encoder is not None or asked.settings):
        raise UsageError("--cascade", "has neither an encoder nor a bridge", "leave --encoder and --set out")
    if asked.cascade and asked.recogniser is None:
        raise UsageError("--cascade", "reads a recogniser's words", "name one with --recogniser")
    if not asked.cascade and asked.encoder is None:
        raise UsageError("--encoder", "is missing", "name an encoder, or ask for a --cascade with its --recogniser")
    settings = None if asked.cascade else {"kind": asked.bridge, **asked.settings}
    if settings is not None:
        bridge_of(settings, "--bridge")
    with whole(asked.out) as folder:
        folder.rmdir()
        count = make(
            folder,
            language=asked.language,
            encoder=asked.encoder,
            recogniser=asked.recogniser,
            bridge=settings,
            window_seconds=asked.window,
            words=asked.words,
            seed=asked.seed,
        )
    if asked.cascade:
        return f"{asked.out}: a recogniser whose words the language model reads; nothing of it needs training"
    return (
        f"{asked.out}: a bridge ({asked.bridge}) of {count:,} parameters that knows nothing yet, between frozen parts"
    )


def ask(
    model: str,
    audio: str,
    question: str,
    *,
    system: str | None = None,
    transcript: str | None = None,
    max_tokens: int = 128,
    lora_scale: float | None = None,
) -> Generation:
    """The model's answer, greedily. transcript: a recogniser's place, whose words stand beside the sound. lora_scale:
    how much its adapters count.

    Raises ModelError for a model that does not listen, DataError (RowError) for a sound that cannot be heard.
    """
    from mnemos.models.load import Checkpoint
    from mnemos.weights.checkpoint import resolve
    from mnemos.weights.speech import speech_folder

    if speech_folder(str(resolve(model, allow_pickle=False, trust_remote_code=False))) is None:
        cure = "name a model that listens (mnemos listen new makes one); a recogniser writes transcripts: mnemos asr"
        raise ModelError(model, "does not listen", cure)
    loaded: Any = Checkpoint(model, lora_scale=lora_scale).load()
    if transcript is not None:
        from mnemos.models.recognisers.load import load
        from mnemos.models.speech.transcripts import Transcripts

        loaded.renderer.hear.transcribe = Transcripts(transcript, load)
    turns = [Turn("system", system)] if system else []
    user = Turn("user", (AudioPart(audio), TextPart(f"\n{question}")))
    found: Generation = loaded.generate([Prompt((*turns, user))], Decoding(max_new_tokens=max_tokens))[0]
    return replace(found, text=found.text.strip())


def sweep(model: str, suites: Sequence[str], scales: Sequence[float], limit: int | None = None) -> dict[str, Any]:
    """{model, fingerprint, scales, suites: {name: {unit, scores: one summary a scale}}}: the model, loaded once, asked
    every suite at every scale of its adapters.

    Raises UsageError for a model without adapters beside its weights (merged ones among them), for suites that need a
    second model, and for scales that cannot be meant.
    """
    from mnemos.measure.ask import measure
    from mnemos.measure.compare import summary
    from mnemos.measure.suite import load_suites
    from mnemos.models.adapter_scale import lora_scale
    from mnemos.models.load import Checkpoint

    asked = load_suites(list(suites), Path.cwd())
    other = next((one for one in asked if one.ask not in ALONE), None)
    if other is not None:
        raise UsageError(f"suite {other.name}", "needs a second model", "leave it out, or write a study")
    asked = tuple(replace(one, items=one.items[:limit]) for one in asked)
    # At 1 nothing is changed, but adapters stay beside the weights.
    loaded: Any = Checkpoint(model, lora_scale=1.0).load()
    found: dict[str, Any] = {one.name: {"unit": one.unit, "scores": []} for one in asked}
    for scale in dict.fromkeys(scales):
        with lora_scale(loaded.model, scale):
            measured = measure(loaded, asked)
        for one in asked:
            found[one.name]["scores"].append(summary(measured[one.name].scores, one))
    return {
        "model": model,
        "fingerprint": Checkpoint(model).fingerprint,
        "scales": list(dict.fromkeys(scales)),
        "suites": found,
    }


ALONE = ("generate", "choose", "nats")
"""How suites ask that need no second model."""


def sweep_lines(found: Mapping[str, Any]) -> list[str]:
    """The table of a sweep: a row a scale, a column a suite, with intervals."""
    width = max(24, *(len(name) + 2 for name in found["suites"]))
    lines = ["scale   " + "".join(f"{name:<{width}}" for name in found["suites"])]
    for at, scale in enumerate(found["scales"]):
        cells = (_cell(one["scores"][at]) for one in found["suites"].values())
        lines.append(f"{scale:<8g}" + "".join(f"{cell:<{width}}" for cell in cells))
    return [line.rstrip() for line in lines]


def _cell(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "no score"
    missing = f", {score['missing']} missing" if score["missing"] else ""
    between = "" if score["low"] is None else f" [{score['low']:.3f}, {score['high']:.3f}]"
    return f"{score['mean']:.3f}{between}{missing}"


def bridge_rows() -> list[dict[str, Any]]:
    """Every kind of bridge: name, summary, paper, settings with their values, deviations."""
    from dataclasses import fields

    from mnemos.models.speech.bridges import BRIDGES

    rows = []
    for name, kind in BRIDGES.items():
        text, _, rest = " ".join((kind.__doc__ or "").split()).partition(" Deviation")
        papers = re.findall(r"arXiv:[\d.]+\d", text)
        numbered = re.split(r"(?:^|(?<=\.)) ?\d\. ", rest.partition(": ")[2])
        rows.append(
            {
                "name": name,
                "summary": text.partition(": ")[2].split(". ")[0],
                "paper": papers[0] if papers else "",
                "settings": {one.name: one.default for one in fields(kind)},
                "deviations": [one.strip() for one in numbered if one.strip()],
            }
        )
    return rows
