"""The settings of training as they were used: one line a setting, arms apart where they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mnemos.core.settings import TrainSettings
from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Drawing
from mnemos.report.words import clean, listing, value

KEY = "training"
TITLE = "How it was trained"
LEAD = "The settings in force, after what an arm's methods and other settings replace."
LOUD = False

Settings = Mapping[str, Any]
Record = tuple[tuple[str, str], ...]


def read(results: Mapping[str, Any], facts: Facts) -> Record | None:
    """(setting, words) pairs, from `train` of each arm; None where no arm has it."""
    arms = results.get("arms")
    rows = [arm for arm in arms if isinstance(arm, Mapping)] if isinstance(arms, Sequence) else []
    found = {clean(arm.get("arm")): arm["train"] for arm in rows if isinstance(arm.get("train"), Mapping)}
    return tuple(_pairs(found)) if found else None


def _pairs(arms: Mapping[str, Settings]) -> list[tuple[str, str]]:
    pairs = []
    for name, say in LINES.items():
        message: dict[str, list[str]] = {}
        for arm, settings in arms.items():
            text = say(settings)
            if text:
                message.setdefault(text, []).append(arm)
        if len(message) == 1 and len(next(iter(message.values()))) == len(arms):
            pairs.append((name, next(iter(message))))
        elif message:
            pairs.append((name, "; ".join(f"{text} ({listing(own, at_most=6)})" for text, own in message.items())))
    return pairs


def _get(name: str, end: str = "") -> Callable[[Settings], str]:
    return lambda settings: f"{value(settings[name])}{end}" if settings.get(name) is not None else ""


def _length(settings: Settings) -> str:
    if settings.get("max_steps") is not None:
        return f"{value(settings['max_steps'])} steps"
    return _get("num_train_epochs", " epochs")(settings)


def _batch(settings: Settings) -> str:
    rows, parts = settings.get("per_device_train_batch_size"), settings.get("gradient_accumulation_steps", 1)
    if not isinstance(rows, int) or not isinstance(parts, int):
        return ""
    text = f"{rows} rows" if parts == 1 else f"{rows} x {parts} = {rows * parts} rows"
    return f"{text} a step, over all processes"


def _optimiser(settings: Settings) -> str:
    text = [value(settings["optim"])] if settings.get("optim") else []
    if settings.get("adam_beta1") is not None:
        text += [f"betas {value(settings['adam_beta1'])} and {value(settings.get('adam_beta2'))}"]
        text += [f"epsilon {value(settings.get('adam_epsilon'))}"]
    decay, clip = settings.get("weight_decay"), settings.get("max_grad_norm")
    text += [f"weight decay {value(decay)}"] if decay else []
    text += [f"gradients clipped at norm {value(clip)}"] if clip else []
    return ", ".join(text)


def _schedule(settings: Settings) -> str:
    name, warmup = settings.get("lr_scheduler_type"), settings.get("warmup_ratio")
    text = value(name) if name else ""
    return f"{text}, warm-up over {value(warmup)} of the steps" if text and warmup else text


def _precision(settings: Settings) -> str:
    if "bf16" not in settings:
        return ""
    text = "bfloat16, with float32 master weights" if settings["bf16"] else "float32"
    saved, lost = settings.get("saved_dtype"), settings.get("rounding")
    if not isinstance(saved, str) or saved == "float32":
        return text
    took = f", which took {100 * lost:.2g} % of what training changed" if isinstance(lost, float) else ""
    return f"{text}; saved in {clean(saved)}{took}"


SAID = {
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "optim", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm", "lr_scheduler_type",
    "warmup_ratio", "bf16", "saved_dtype", "rounding", "max_length",
}  # fmt: skip


def _others(settings: Settings) -> str:
    more = {key: part for key, part in settings.items() if key not in SAID and part != _default(key)}
    return ", ".join(f"{clean(key)} {value(part)}" for key, part in more.items())


def _default(name: str) -> Any:
    info = TrainSettings.model_fields.get(name)
    return None if info is None else info.get_default(call_default_factory=True)


LINES: dict[str, Callable[[Settings], str]] = {
    "learning rate": _get("learning_rate"),
    "length": _length,
    "batch": _batch,
    "optimiser": _optimiser,
    "schedule": _schedule,
    "precision": _precision,
    "longest example": _get("max_length", " tokens"),
    "beside these": _others,
}


def words(facts: Facts, record: Record) -> list[str]:
    """Nothing beside the table."""
    return []


def tables(facts: Facts, record: Record) -> Sequence[Table]:
    """One line a setting."""
    return (Table("Training settings", lines=record),)


def figures(facts: Facts, record: Record) -> Sequence[Figure]:
    """The same lines, without a drawing."""
    return (Figure(Drawing("", ""), lines=tuple((name, text, "") for name, text in record)),)
