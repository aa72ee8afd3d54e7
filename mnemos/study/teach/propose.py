"""Which arms to race, and how to train them: from what was seen of rows and model, with the reason for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError, printable
from mnemos.core.method import find, validated
from mnemos.core.yaml_text import dump_yaml
from mnemos.measure.split import Part
from mnemos.study.config import raw_study, resolved_study
from mnemos.study.teach.budget import Budget, Costs, Schedule, schedule
from mnemos.study.teach.look import Look, seen
from mnemos.study.teach.rows import Rows

Steps = list[dict[str, dict[str, Any]]]

RATES = ((20e6, 3e-4), (1e9, 2e-5), (math.inf, 1e-5))
"""Largest number of parameters -> peak learning rate: what small and large models are usually tuned with."""

LORA_FACTOR = 10.0
"""An adapter's rate beside that of all weights."""

WRITING = 0.15
"""Share of the budget that the model may spend on writing rows itself, for one arm."""

FAR = 1.5
"""Nats a taught token, from which on the answers are far from what the model would write."""

MEASURING = 0.3
"""Share of a budget of time that measuring may take."""

ROOM = 0.8
"""Share of the machine's memory that a training may take by the estimate."""

FEWEST_ITEMS = 60
"""Items of each suite, both parts together, that are asked however small the budget."""

MOST_ITEMS = 800

HALF_WAY: Steps = [{"weights": {"expression": "0.5*after + 0.5*before"}}]


@dataclass(frozen=True)
class Arm:
    """One way to teach. steps: methods, left to right. why: it was proposed. train: own training settings."""

    name: str
    steps: Steps
    why: str
    train: Mapping[str, Any]

    @property
    def grown(self) -> float:
        """Rows of a training over rows taught, by the shares of all rows that its methods add: 1.43 where three of ten
        are rehearsed. Trap: added rows are taken to be as long as the taught ones."""
        import mnemos.methods  # noqa: F401  fills the registry

        factor = 1.0
        for step in self.steps:
            for name, given in step.items():
                share = getattr(validated(find(name).settings, given or {}, where=name), "share_of_final", 0.0)
                # At 1 none of the taught rows is left, and nothing is known of how many there are instead.
                factor /= 1 - share if share < 1 else 1.0
        return factor

    @property
    def kind(self) -> str:
        """The fields of the plan that it changes: arms that change the same are variants of each other, and two kinds
        can be combined."""
        import mnemos.methods  # noqa: F401  fills the registry

        changed = {field for step in self.steps for name in step for field in find(name).changes}
        if not changed:
            return "rate" if self.train else "plain"
        return "weights" if changed == {"after"} else "+".join(sorted(changed))

    @property
    def brakes(self) -> bool:
        """Whether it is plain training, only less of it: what it keeps before anything was learned is no merit."""
        return self.kind in ("weights", "rate")


@dataclass(frozen=True)
class Proposal:
    """What will be raced. arms: in the order in which a small budget keeps them. train: settings of all arms. items,
    proof_items: of each suite at most, both parts together, whose development part is asked in the race and whose
    held-out part in the proof. schedule: of the race."""

    arms: tuple[Arm, ...]
    train: Mapping[str, Any]
    items: int
    proof_items: int
    schedule: Schedule


def settings(rows: Rows, parameters: int) -> dict[str, Any]:
    """Training settings from the number of rows, their length and the size of the model."""
    epochs = 3 if rows.taught < 1_000 else 2 if rows.taught < 5_000 else 1
    # The next power of two leaves room for the few longest rows; still longer ones are left out and counted.
    length = 2 ** math.ceil(math.log2(max(64, 1.3 * rows.longest)))
    return {
        "learning_rate": next(rate for most, rate in RATES if parameters <= most),
        "num_train_epochs": epochs,
        "per_device_train_batch_size": 8,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.03,
        "max_length": min(length, 4096),
    }


def fitted(train: dict[str, Any], model: str) -> dict[str, Any]:
    """The same settings with smaller micro-batches, and activations computed again, where the estimate of a full
    training does not fit this machine; rows of a step stay as many. By all of its memory, not by what is free: a
    teaching that is continued must decide as it did."""
    from mnemos.models.load import Checkpoint
    from mnemos.study.room import fitting, machine_memory, needs_for

    if not Path(model).exists():
        return train  # a hub id, whose headers may not be here
    rows = int(train["per_device_train_batch_size"])
    needed = needs_for(Checkpoint(model))
    batch, recompute, _ = fitting(rows, int(train["max_length"]), ROOM * machine_memory(), needed)
    smaller = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": -(-rows // batch)}
    return {**train, **(smaller if batch < rows else {}), **({"gradient_checkpointing": True} if recompute else {})}


def arms(look: Look, train: Mapping[str, Any], budget: Budget, *, old_rows: str | None) -> tuple[Arm, ...]:
    """The arms, each with the reason why it is among them."""
    rate = float(train["learning_rate"])
    found = [
        Arm("plain", [], "the reference: what teaching costs without a remedy", {}),
        Arm("half-way", HALF_WAY, "half-way back to the model before: costs no training of its own", {}),
    ]
    if old_rows is not None:
        replay: Steps = [{"replay": {"data": old_rows, "share_of_final": 0.3, "repeat": True}}]
        found.append(Arm("replay", replay, "old rows are there to be rehearsed", {}))
    elif _can_write(look, budget, 4 * 0.3 / 0.7):
        magpie: Steps = [{"magpie": {"share_of_final": 0.3}}]
        found.append(Arm("magpie", magpie, "no old rows: the model writes chats of its own to rehearse", {}))
    found += [
        Arm("kl", [{"kl_to_before": {"coefficient": 0.2}}], "stays near what the model said before", {}),
        Arm("gentle", [], "a third of the learning rate", {"learning_rate": _round(rate / 3)}),
        Arm(
            "lora",
            [{"lora": {"rank": 16, "learning_rate": _round(LORA_FACTOR * rate)}}],
            "an adapter: less memory, a small file",
            {},
        ),
    ]
    able = [name for name in _new(look) if 0.1 <= look.before[name] <= 0.9]
    if able and look.rows.match in ("normalised", "json") and _can_write(look, budget, 8):
        own: Steps = [{"self_output": {"num_generations": 8, "verifier": look.rows.match, "unsolved": "keep"}}]
        found.append(Arm("own-words", own, "the model can do some of the task: its own right answers", {}))
    if look.nats > FAR:
        found.append(
            Arm("token-mask", [{"token_mask": {"masked_share": 0.22}}], "the answers are far from its own", {})
        )
    return tuple(found)


def _round(rate: float) -> float:
    """Two digits: 1.0e-4 rather than 9.999999999999999e-05."""
    return float(f"{rate:.2g}")


def _new(look: Look) -> list[str]:
    return [str(spec["name"]) for spec in look.new]


def _can_write(look: Look, budget: Budget, per_row: float) -> bool:
    """Whether the model can write so many answers for each row within its share of the budget."""
    asked = [look.item_seconds[name] for name in _new(look)]
    if budget.unit != "seconds" or not asked:
        return False
    return per_row * look.rows.taught * max(asked) <= WRITING * budget.amount


def arms_of(file: Path, look: Look, model: str, seed: int) -> tuple[tuple[Arm, ...], dict[str, Any]]:
    """Arms and training settings of a study file, which is a plan that was edited.

    In the file's order, the first being the one that a small budget keeps; `plain` only where the file names it, or no
    arm. Everything else in it has to be what a plan of this teaching holds: rows, model, suites and seed belong to the
    race. Raises UsageError, naming the key, where it is not.
    """
    raw, folder = raw_study(file)
    study = resolved_study(raw, folder)
    for key, bad, cure in (
        ("model", study.model != model, "give --model"),
        ("teach", study.is_sequence or study.listed[0].data != look.rows.file, "give its rows as DATA"),
        ("suites", _names(study.suites) != _names(look), "give --suites and --new"),
        ("seeds", study.seeds != [seed], "give --seed"),
    ):
        if bad:
            raise UsageError(
                f"{file}: {key}", "is not that of this teaching's plan", f"{cure}; a plan brings arms and train"
            )
    usual = study_of(look, model, (), {}, 1, "development", name="plan")
    for key in sorted({*raw} - {*usual}):
        raise UsageError(f"{file}: {key}", "is not honoured in a race", f"mnemos run {file} honours it; or take it out")
    train = study.train.model_dump(exclude_unset=True)
    needed = ("learning_rate", "num_train_epochs", "per_device_train_batch_size")
    train |= {key: getattr(study.train, key) for key in needed}
    found = []
    # A study always has `plain`, to compare with; a race would spend a place of its budget on it, and the first one.
    for name in [str(one) for one in raw.get("arms") or {}] or ["plain"]:
        written = study.arms[name]
        steps = [{method: dict(given or {}) for method, given in step.items()} for step in written or []]
        found.append(Arm(name, steps, f"from {file.name}", study.arm_train.get(name, {})))
    return tuple(found), train


def _names(suites: Any) -> list[set[str]]:
    return [
        {str(spec["name"] if isinstance(spec, Mapping) else spec) for spec in role} for role in (suites.new, suites.old)
    ]


def propose(
    look: Look,
    train: Mapping[str, Any],
    budget: Budget,
    *,
    old_rows: str | None,
    wanted: int,
    own: tuple[Arm, ...] | None = None,
) -> Proposal:
    """Arms, items and a schedule within the budget. Raises UsageError where not even one arm fits.

    wanted: items of each suite at most. own: arms to race in place of those that follow from the look.
    """
    chosen = arms(look, train, budget, old_rows=old_rows) if own is None else own
    tokens = look.rows.taught * look.rows.length * float(train["num_train_epochs"])
    rows = int(train["per_device_train_batch_size"]) * int(train.get("gradient_accumulation_steps", 1))
    steps = math.ceil(look.rows.taught / rows) * math.ceil(train["num_train_epochs"])
    most, first = max(arm.grown for arm in chosen), chosen[0].grown
    items, costs = wanted, Costs(tokens * most, 0.0, 0.0, tokens * first)
    if budget.unit == "seconds":
        # Every arm at one rung, a third of them at two more, with their half-way weights.
        looks = 2 * len(chosen) + 4
        whole = _asking(look, wanted)
        share = min(1.0, MEASURING * budget.amount / max(1e-9, looks * whole))
        # The proof asks all: it is asked once, and what it can show hangs on it.
        items = int(max(min(FEWEST_ITEMS, wanted), share * min(wanted, 2 * max(look.held.values()))))
        seconds = tokens / look.rate
        costs = Costs(seconds * most, _asking(look, items), whole, seconds * first)
    return Proposal(chosen, train, items, wanted, schedule(len(chosen), steps, costs, budget))


def _asking(look: Look, items: int) -> float:
    """Seconds to ask one part of every suite, of `items` in both parts."""
    return sum(look.item_seconds.get(name, 0.0) * min(count, items / 2) for name, count in look.held.items())


def study_of(
    look: Look,
    model: str,
    arms: Sequence[Arm],
    train: Mapping[str, Any],
    items: int,
    part: Part,
    *,
    name: str,
    limit: int | None = None,
    seeds: Sequence[int] = (0,),
    health: bool = False,
) -> dict[str, Any]:
    """A study of some arms on one part of every suite, as its file has it. limit: of the rows."""
    return {
        "name": name,
        "model": model,
        "teach": {"data": look.rows.file, **({} if limit is None else {"limit": limit})},
        "suites": {
            "new": [_spec(spec, items, part) for spec in look.new],
            "old": [_spec(spec, items, part) for spec in look.old],
        },
        "arms": {arm.name: arm.steps for arm in arms},
        "arm_train": {arm.name: dict(arm.train) for arm in arms if arm.train},
        "train": dict(train),
        "seeds": list(seeds),
        "health": health,
    }  # fmt: skip


def _spec(spec: Mapping[str, Any], items: int, part: Part) -> dict[str, Any]:
    limit = min(items, spec.get("limit", items))
    return {**spec, "limit": limit, "part": part}


def combined(a: Arm, b: Arm) -> Arm | None:
    """Both remedies at once; None where they are of one kind or use one method twice."""
    used = [name for arm in (a, b) for step in arm.steps for name in step]
    if a.kind == b.kind or len(set(used)) < len(used) or not (a.steps or a.train) or not (b.steps or b.train):
        return None
    # Arithmetic on weights is done behind the training, whatever stands before it.
    first, second = (b, a) if a.kind == "weights" else (a, b)
    return Arm(
        f"{first.name}+{second.name}",
        [*first.steps, *second.steps],
        "the two best kinds together",
        {**first.train, **second.train},
    )


def half_way(arm: Arm) -> Arm | None:
    """The arm's weights half-way back; None where they are already."""
    if any("weights" in step for step in arm.steps):
        return None
    return Arm(
        f"{arm.name}+half-way",
        [*arm.steps, *HALF_WAY],
        "costs no training of its own",
        arm.train,
    )


def rank(arm: Arm) -> tuple[float, ...]:
    """What makes an arm simpler: fewer methods and settings of its own; then no rows that have to be written."""
    names = [name for step in arm.steps for name in step]
    written = sum(name in ("magpie", "self_output") for name in names)
    return (float(len(names) + len(arm.train)), float(written))


def plan_text(look: Look, proposal: Proposal, study: Mapping[str, Any], budget: Budget, command: str) -> str:
    """The plan as a study file, with what was decided and why in comments."""
    layout = proposal.schedule
    width = max(len(arm.name) for arm in proposal.arms)
    lines = [
        f"# Teach {printable(str(study['model']))} what is in {printable(Path(look.rows.file).name)}: the plan.",
        "# Edit its arms and train, and race them: the command below with --plan and this file. Or run it as any study",
        "# (mnemos run). Suites are asked for their development half here; the other half is kept for the proof.",
        f"#   {command}",
        "#",
        *(f"#   {arm.name:<{width}}  {arm.why}" for arm in proposal.arms),
        "#",
        f"# Race: {race_words(layout)}; {budget.shown(layout.cost)} of {budget} at most.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n" + dump_yaml(dict(study))


def proof_words(look: Look, items: int, max_loss: float) -> str:
    """What the proof can show, by the suite with the fewest held-out items."""
    held = {name: min(count, items // 2) for name, count in look.held.items()}
    name = min(held, key=lambda one: held[one])
    share = look.before[name] if 0 <= look.before[name] <= 1 else 0.5
    return (
        f"{min(held.values())} to {max(held.values())} held-out items; of {name}, {seen(held[name], max_loss, share)}"
    )


def race_words(layout: Schedule) -> str:
    """The race in a line: 7 arms on 11 % of the rows, 4 on 33 %, 2 on all."""
    parts = [
        f"{number} arm{'s' if number > 1 else ''} on {'all rows' if share == 1 else f'{share:.0%} of the rows'}"
        for share, number in zip(layout.shares, layout.arms, strict=True)
    ]
    return ", ".join(parts) + f"; the chosen one with {layout.seeds} seed{'s' if layout.seeds > 1 else ''}"
