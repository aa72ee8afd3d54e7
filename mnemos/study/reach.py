"""Whether a setting that somebody gave reaches a plan at all.

``--over train.learning_rate=1e-5,1e-2`` trains one adapter twice under two names where the arm's `lora` has a rate of
its own. So a setting given by ``--over``, ``--set`` or `arm_train` is put to the test: the plans of the arm are made
again with another value, and where none of them differs, nobody would ever see what the setting does, and it is
refused with the name of what stands before it. A plan is compared by what of it is used (`train.used`), since a
setting that another one overrides is written into the plan all the same.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, TypeAdapter

from mnemos.core.errors import MnemosError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.method import find
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.study.config import ArmSteps, Study
from mnemos.study.experiment import Experiment, plans_of
from mnemos.train.used import ASIDE, used

TRAIN = "train"


@dataclass(frozen=True)
class Unread:
    """Stands for the model before in plans that are only compared: its content would be hashed, or its commit asked
    for, once more for every value that is tried."""

    path: str

    @property
    def fingerprint(self) -> str:
        """The path, which no setting of an arm changes."""
        return self.path

    def load(self) -> NoReturn:
        """Never."""
        raise AssertionError(f"{self.path} is not to be loaded")


@dataclass(frozen=True)
class Given:
    """One setting, where it stands. arm: of a setting of its own; None for one under `train`. step: the number of
    the method in the arm's list; None for a training setting."""

    arm: str | None
    step: int | None
    setting: str

    def value(self, study: Study) -> Any:
        """What it is now; None where an arm has no such training setting of its own."""
        if self.arm is None:
            return getattr(study.train, self.setting)
        if self.step is None:
            return study.arm_train.get(self.arm, {}).get(self.setting)
        return _settings(study, self.arm, self.step)[1].get(self.setting)

    def changed(self, study: Study, value: Any) -> Study:
        """The study with another value here."""
        if self.arm is None:
            return _with(study, train=study.train.model_copy(update={self.setting: value}))
        if self.step is None:
            own = {**study.arm_train.get(self.arm, {}), self.setting: value}
            return _with(study, arm_train={**study.arm_train, self.arm: own})
        steps: ArmSteps = list(study.arms[self.arm] or [])
        name, settings = _settings(study, self.arm, self.step)
        steps[self.step] = {name: {**settings, self.setting: value}}
        return _with(study, arms={**study.arms, self.arm: steps})

    def record(self, study: Study) -> type[BaseModel]:
        """The settings that it is one of."""
        if self.arm is None or self.step is None:
            return TrainSettings
        return find(_settings(study, self.arm, self.step)[0]).settings

    def words(self, study: Study, base: str | None = None) -> str:
        """Like "lora.learning_rate = 0.001 of arm lora". base: what its arm is called, for one that a sweep made."""
        arm = self.arm if base is None else base
        value = f"{self.setting} = {self.value(study)!r}"
        if self.arm is None:
            return f"{TRAIN}.{value}"
        if self.step is None:
            return f"arm_train.{arm}.{value}"
        return f"{_settings(study, self.arm, self.step)[0]}.{value} of arm {arm}"


def refuse_unreached(
    study: Study, root: Path, overrides: Mapping[str, Any] | None, *, swept: Iterable[str] = ()
) -> list[str]:
    """Raise UsageError for the first setting of `arm_train` and of `overrides` (dotted keys, as ``--set`` gives them)
    that reaches no plan; return a line for each arm that one of the overrides does not reach, though others are.
    Settings that are about the running alone (`train.used.ASIDE`) are left in peace, and so are `swept` ones, which
    `refuse_idle_axes` looks at."""
    lines, aside = [], {*ASIDE, *swept}
    for arm, own in study.arm_train.items():
        for setting in own:
            given = Given(arm, None, setting)
            if setting not in aside and not reaches(study, root, given, [arm]):
                _refuse(study, root, given, f"arm_train.{arm}.{setting} = {own[setting]!r}", [arm])
    for key, value in (overrides or {}).items():
        for given in _named_by(study, key, value):
            arms = list(study.arms) if given.arm is None else [given.arm]
            if given.setting in aside:
                continue
            missed = [arm for arm in arms if not reaches(study, root, given, [arm])]
            if missed == arms:
                _refuse(study, root, given, f"--set {key} = {value!r}", arms)
            lines += [_note(study, root, given, key, arm) for arm in missed]
    return lines


def refuse_idle_axes(experiment: Experiment, swept: Mapping[str, Mapping[str, Any]], base: str) -> None:
    """Raise UsageError for a key of a sweep whose values make no difference to any plan.

    swept: arm -> key (``train.learning_rate``, ``lora.rank``) -> value. base: the arm that these were made from.
    """
    study, root = experiment.study, experiment.root
    # Reversed, so that of an arm's runs the first is the one that stays.
    names = {run.arm: _name([stage.plan for stage in run.stages]) for run in reversed(experiment.runs)}
    for key in next(iter(swept.values())):
        # Arms that agree in all other keys: where each such group has one plan only, this key made no difference.
        groups: dict[str, set[str]] = {}
        for arm, values in swept.items():
            others = fingerprint({one: repr(value) for one, value in values.items() if one != key})
            groups.setdefault(others, set()).add(names[arm])
        if any(len(group) > 1 for group in groups.values()):
            continue
        places = [place for arm in swept if (place := _place(study, arm, key)) is not None]
        single = len({repr(values[key]) for values in swept.values()}) == 1
        if single and any(reaches(study, root, one, [str(one.arm)]) for one in places):
            continue
        if places:
            _refuse(study, root, places[0], f"--over {key}", [str(places[0].arm)], base)


def reaches(study: Study, root: Path, given: Given, arms: Sequence[str], *, unknown: bool = True) -> bool:
    """Whether another value here makes another plan of any of these arms. unknown: the answer where no other value
    can be made up."""
    before, tried = [_of(study, root, arm) for arm in arms], False
    for value in others(given.record(study), given.setting, given.value(study)):
        try:
            after = [_of(given.changed(study, value), root, arm) for arm in arms]
        except MnemosError:
            continue  # this value cannot be meant here
        if after != before:
            return True
        tried = True
    return unknown and not tried


def others(record: type[BaseModel], setting: str, value: Any) -> Iterator[Any]:
    """Values near `value` that the setting may have instead, as far as they can be told from its type."""
    info = record.model_fields[setting]
    found: list[Any] = [] if info.is_required() else [info.get_default(call_default_factory=True)]
    words = [word for kind in _kinds(info.annotation) for word in typing.get_args(kind) if _literal(kind)]
    types = {kind for kind in _kinds(info.annotation) if isinstance(kind, type)}
    if isinstance(value, bool) or bool in types:
        found += [True, False]
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Several, since bounds may forbid some and two values may mean the same.
        found += [value + 1, value - 1, 2 * value]
        found += [value / 2, value + 0.01] if float in types else []
    elif value is None:
        found += [1] * (int in types) + [0.25, 0.001] * (float in types)
    if TrainSettings is record and str in types:
        found += [f"{value}-other", "vllm"]  # no plan asks whether there is such an optimiser
    for one in [*found, *words]:
        if one != value and _possible(record, setting, one):
            yield one


def _kinds(annotation: Any) -> Iterator[Any]:
    inner = () if _literal(annotation) else typing.get_args(annotation)
    if not inner or isinstance(annotation, type):
        yield annotation
    for one in inner:
        yield from _kinds(one)


def _literal(kind: Any) -> bool:
    return typing.get_origin(kind) is Literal


def _possible(record: type[BaseModel], setting: str, value: Any) -> bool:
    """Whether the bounds of the field alone allow it."""
    info = record.model_fields[setting]
    kind: Any = typing.Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    try:
        TypeAdapter(kind).validate_python(value)
    except ValueError:
        return False
    return True


def _refuse(
    study: Study, root: Path, given: Given, setting: str, arms: Sequence[str], base: str | None = None
) -> NoReturn:
    found = [hider.words(study, base) for arm in arms if (hider := _hider(study, root, given, arm)) is not None]
    before = list(dict.fromkeys(found))
    if before:
        verb = "stands" if len(before) == 1 else "stand"
        raise UsageError(
            setting,
            f"reaches no plan: {'; '.join(before)} {verb} before it",
            "change that instead, or leave one of them out",
        )
    named = base or ", ".join(arms)
    raise UsageError(
        setting, f"reaches no plan: whatever its value, what arm {named} trains is the same", "leave it out"
    )


def _note(study: Study, root: Path, given: Given, key: str, arm: str) -> str:
    hider = _hider(study, root, given, arm)
    return f"note    --set {key} does not reach arm {arm}" + (
        f": {hider.words(study)} stands before it" if hider else ""
    )


def _hider(study: Study, root: Path, given: Given, arm: str) -> Given | None:
    """The setting of training or of the arm without which this one would reach the arm's plans."""
    candidates = [Given(None, None, setting) for setting in TrainSettings.model_fields]
    candidates += [Given(arm, None, setting) for setting in study.arm_train.get(arm, {})]
    for number in range(len(study.arms[arm] or [])):
        candidates += [Given(arm, number, setting) for setting in _settings(study, arm, number)[1]]
    for one in reversed(candidates):  # the arm's own settings stand nearest
        if one == given or (without := _without(study, one)) is None:
            continue
        try:
            if reaches(without, root, given, [arm], unknown=False):
                return one
        except MnemosError:
            continue
    return None


def _without(study: Study, one: Given) -> Study | None:
    """The study with this setting at its default; None where it is there already or has none."""
    if one.arm is not None and one.step is None:
        own = {name: value for name, value in study.arm_train[one.arm].items() if name != one.setting}
        return _with(study, arm_train={**study.arm_train, one.arm: own})
    info = one.record(study).model_fields[one.setting]
    if info.is_required():
        return None
    default = info.get_default(call_default_factory=True)
    return None if default == one.value(study) else one.changed(study, default)


def _named_by(study: Study, key: str, value: Any) -> Iterator[Given]:
    """The settings that a dotted key gives, as far as they are settings of training or of an arm's method."""
    parts = key.split(".")
    if parts[0] == TRAIN:
        names = parts[1:2] or (list(value) if isinstance(value, Mapping) else [])
        yield from (Given(None, None, name) for name in names if name in TrainSettings.model_fields)
    elif parts[0] == "arms" and len(parts) >= 5 and parts[1] in study.arms:
        arm, number = parts[1], int(parts[2])  # an index: it would have been refused where it is written
        if parts[4] in _settings(study, arm, number)[1]:
            yield Given(arm, number, parts[4])


def _place(study: Study, arm: str, key: str) -> Given | None:
    """Where a sweep put the value of `key`; None where that is inside another setting."""
    method, _, setting = key.partition(".")
    if method == TRAIN:
        return Given(arm, None, setting)
    for number in range(len(study.arms[arm] or [])):
        name, settings = _settings(study, arm, number)
        if name == method and setting in settings:
            return Given(arm, number, setting)
    return None


def _settings(study: Study, arm: str, number: int) -> tuple[str, dict[str, Any]]:
    ((name, settings),) = (study.arms[arm] or [])[number].items()
    return name, dict(settings or {})


def _with(study: Study, **changes: Any) -> Study:
    return study.model_copy(update=changes)


def _of(study: Study, root: Path, arm: str) -> str:
    return _name(plans_of(study, root, arm, Unread(study.model)))


def _name(plans: Sequence[Plan]) -> str:
    """Equal exactly where nothing that is used of the plans differs."""
    return fingerprint([[replace(plan, train=TrainSettings()), used(plan)] for plan in plans])
