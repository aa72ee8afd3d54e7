"""@method: a pure function Plan -> Plan with a name, a paper and settings read from its signature.

    @method(paper="arXiv:1909.03329", changes={"examples"}, off={"share_of_final": 0.0})
    def replay(plan: Plan, *, share_of_final: Annotated[float, Field(ge=0, lt=1)] = 0.1) -> Plan:
        ...

The keyword-only parameters are the settings: their annotations (with pydantic's Field bounds)
and the docstring's paragraph or line ``name: what it means`` for each give the YAML schema, the
CLI listing and the docs row; a setting without either is refused at registration, and unknown
keys are refused with the nearest known one. Settings that several methods share stand in blocks (pydantic models)
behind the plan, and are written flat among the others.

Four laws hold for every registered method and are tested for each:

off       with its `off` settings the plan's fingerprint is unchanged
pure      the same plan and settings give the same fingerprint
declared  only the fields in `changes` differ
commute   methods with disjoint `changes` give the same fingerprint in either order
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from mnemos.core.errors import UsageError, nearest, shortened
from mnemos.core.fingerprint import canonical, fingerprint
from mnemos.core.plan import CHANGEABLE, Applied, Plan

REGISTRY: dict[str, Method] = {}
"""Every method by name, filled when `mnemos.methods` is imported."""


@dataclass(frozen=True)
class Method:
    """A registered method. changes: the Plan fields it may change. off: settings under which it
    changes nothing. example: settings for docs and tests where a required one has no default. shared: blocks of
    settings that several methods have in common, which the function takes behind the plan, each as one value."""

    name: str
    function: Callable[..., Plan]
    paper: str
    changes: frozenset[str]
    off: Mapping[str, Any]
    example: Mapping[str, Any]
    settings: type[BaseModel]
    shared: tuple[type[BaseModel], ...] = ()

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, on one line."""
        text = inspect.getdoc(self.function) or ""
        return " ".join(text.split("\n\n")[0].split())

    def validate(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings with defaults filled in. Raises UsageError naming key, value and bound."""
        values: dict[str, Any] = validated(self.settings, settings, where=self.name).model_dump()
        return values

    def __call__(self, plan: Plan, /, **settings: Any) -> Plan:
        """The plan with this method applied, its history one line longer.

        Raises UsageError for settings that cannot be meant, TypeError when the function changed
        a field that it did not declare (a defect of the method, not of the user).
        """
        return self.applied(plan, settings)

    def applied(self, plan: Plan, settings: Mapping[str, Any]) -> Plan:
        """As a call, with the settings as a study file has them."""
        values = self.validate(settings)
        own = dict(values)
        blocks = [block(**{name: own.pop(name) for name in block.model_fields}) for block in self.shared]
        out = self.function(plan, *blocks, **own)
        if not isinstance(out, Plan):
            raise TypeError(f"method {self.name} returned {type(out).__name__}, not a Plan")
        changed = {f.name for f in dataclasses.fields(Plan) if not _same(getattr(plan, f.name), getattr(out, f.name))}
        undeclared = changed - self.changes
        if undeclared:
            raise TypeError(f"method {self.name} changed {sorted(undeclared)} but declares {sorted(self.changes)}")
        line = Applied(self.name, self.paper, canonical(values), off=not changed)
        return dataclasses.replace(out, history=(*plan.history, line))


def _same(a: Any, b: Any) -> bool:
    return a is b or fingerprint(a) == fingerprint(b)


def validated(model: type[BaseModel], values: Mapping[str, Any], *, where: str) -> Any:
    """An instance of `model`, or UsageError: unknown keys with the nearest known name, wrong
    types and ranges with the value met. where: the place in the study file, for the message."""
    if not isinstance(values, Mapping):
        raise UsageError(
            f"{where} = {values!r}", "must be a mapping of settings", f"write {{key: value}} under {where}"
        )
    unknown = [key for key in values if key not in model.model_fields]
    if unknown:
        raise UsageError(f"{where}.{unknown[0]}", *retired_or_nearest(str(unknown[0]), model.model_fields))
    try:
        made = model(**values)
    except ValidationError as error:
        raise _refusal(error, model, values, where) from None
    for key, value in values.items():
        _refuse_misread(value, getattr(made, key), f"{where}.{key}")
    return made


RETIRED = {
    "along": "trajectory",
    "clip": "epsilon",
    "clip_high": "epsilon_high",
    "discount": "gamma",
    "draw_with": "generation_backend",
    "least_gap": "min_gap",
    "least_usable": "min_usable",
    "longest": "max_chars",
    "samples": "num_generations",
    "sft": "sft_weight",
    "shortest": "min_chars",
    "steps_per_drawing": "num_iterations",
    "trace": "gae_lambda",
}
"""Keys of earlier versions and what they are called now, wherever a settings record has the new one."""


def retired_or_nearest(key: str, known: Iterable[str]) -> tuple[str, str]:
    """What to say of an unknown key: bound and cure."""
    names = set(known)
    now = RETIRED.get(key)
    if now in names:
        return f"is called {now} now", f"write {now} in its place"
    return "is not a known key", nearest(key, names)


MOST = 2**53
"""Numbers beyond are refused everywhere: none can be meant, and not every library can hold them."""


def _refuse_misread(given: Any, taken: Any, where: str) -> None:
    """What pydantic converts without a word: true to 1; and what no setting can mean: 10**20."""
    number = isinstance(taken, int | float) and not isinstance(taken, bool)
    if number and isinstance(given, bool):
        raise UsageError(f"{where} = {str(given).lower()}", "must be a number", "write 1 or 0 if you mean it")
    if number and abs(taken) > MOST:
        raise UsageError(f"{where} = {given}", f"is beyond {MOST:,}", "no setting needs a number of that size")
    if isinstance(given, Mapping):
        for key, value in given.items():
            inner = taken.get(key) if isinstance(taken, Mapping) else getattr(taken, str(key), None)
            _refuse_misread(value, inner, f"{where}.{key}")
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple) and len(given) == len(taken):
        for number_of, (value, inner) in enumerate(zip(given, taken, strict=True)):
            _refuse_misread(value, inner, f"{where}.{number_of}")


MOST_MET = 200
"""Characters of a refused value that are quoted."""


def _refusal(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], where: str) -> UsageError:
    """The first bad setting. Where it may be one of several types, pydantic has an error for each:
    the deepest place says most, and all that is said of it is joined."""
    errors = error.errors()
    errors = [one for one in errors if one["loc"][:1] == errors[0]["loc"][:1]]
    places = [_place(values, one) for one in errors]
    place = max(places, key=len)
    here = [one for one, its in zip(errors, places, strict=True) if its == place]
    given = here[0].get("input")
    met = "missing" if here[0]["type"] == "missing" else shortened(repr(given), MOST_MET)
    text = " or: ".join(dict.fromkeys(one["msg"].removeprefix("Value error, ") for one in here))
    cure = _hint(model, place)
    if any(one["type"] == "string_type" for one in here) and isinstance(given, int | float):
        quoted = str(given).lower() if isinstance(given, bool) else str(given)
        cure = f'{cure} Quote a text: "{quoted}"'.strip()
    return UsageError(f"{'.'.join([where, *map(str, place)])} = {met}", text, cure)


def _place(values: Any, error: Mapping[str, Any]) -> tuple[int | str, ...]:
    """The error's `loc` without pydantic's names of types, which are no keys of the user's."""
    place: list[int | str] = []
    loc: tuple[int | str, ...] = error["loc"]
    for i, part in enumerate(loc):
        missing = error["type"] == "missing" and i == len(loc) - 1
        inside = isinstance(values, Mapping) and part in values
        listed = isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
        if inside or listed:
            values = values[part]
        elif i > 0 and not missing:
            continue
        place.append(part)
    return tuple(place)


def _hint(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    if not place or place[0] not in model.model_fields:
        return ""
    info = model.model_fields[str(place[0])]
    text = info.description or ""
    default = "" if info.is_required() else f" (default {info.get_default(call_default_factory=True)!r})"
    return f"{text}{default}".strip()


def method(
    *,
    paper: str,
    changes: Iterable[str],
    off: Mapping[str, Any],
    example: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Plan]], Method]:
    """Register a method. paper: "arXiv:…", or a sentence where there is none."""
    declared = frozenset(changes)
    strangers = declared - set(CHANGEABLE)
    if strangers or not declared:
        raise TypeError(f"changes={sorted(declared)}: must name fields among {CHANGEABLE}")

    def register(function: Callable[..., Plan]) -> Method:
        name = function.__name__
        if name in REGISTRY:
            raise TypeError(f"method {name} is registered twice")
        made = Method(name, function, paper, declared, dict(off), dict(example or {}), *_settings_model(function))
        made.validate({**made.example, **made.off})
        REGISTRY[name] = made
        return made

    return register


def _descriptions(text: str, names: Iterable[str]) -> dict[str, str]:
    """Per setting, the docstring's ``name: …`` up to the next setting or the paragraph's end."""
    known = "|".join(re.escape(name) for name in names)
    if not known:
        return {}
    found = re.findall(rf"^({known}): (.+?)(?=\n\n|\n(?:{known}): |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return {name: " ".join(words.split()) for name, words in found}


def _settings_model(function: Callable[..., Plan]) -> tuple[type[BaseModel], tuple[type[BaseModel], ...]]:
    """All settings of a method, flat as they are written, and the blocks among them that it shares with others. A
    block that is the default of its parameter gives the method its defaults."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].name != "plan":
        raise TypeError(f"{function.__name__}: the first parameter must be `plan`")
    own = [parameter for parameter in parameters[1:] if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    others = [parameter for parameter in parameters[1:] if parameter not in own]
    blocks = [kind for one in others if isinstance(kind := hints.get(one.name), type) and issubclass(kind, BaseModel)]
    if len(blocks) < len(others):
        where = f"{function.__name__}.{others[0].name}"
        raise TypeError(f"{where}: settings are keyword-only, behind blocks of shared ones (BaseModel)")
    fields: dict[str, Any] = {}
    for parameter, block in zip(others, blocks, strict=True):
        text = _descriptions(inspect.getdoc(block) or "", block.model_fields)
        for name, info in block.model_fields.items():
            if name in fields:
                raise TypeError(f"{function.__name__}.{name}: stands in two blocks")
            default = info.default if parameter.default is inspect.Parameter.empty else getattr(parameter.default, name)
            fields[name] = _field(f"{block.__name__}.{name}", info.rebuild_annotation(), default, text.get(name))
    text = _descriptions(inspect.getdoc(function) or "", [parameter.name for parameter in own])
    for parameter in own:
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        name = parameter.name
        if name in fields:
            raise TypeError(f"{function.__name__}.{name}: stands in a block too")
        fields[name] = _field(f"{function.__name__}.{name}", hints.get(name), default, text.get(name))
    # What must be given stands first, for readers of the catalogue.
    fields = dict(sorted(fields.items(), key=lambda field: not field[1][1].is_required()))
    config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), validate_default=True, allow_inf_nan=False
    )
    return create_model(function.__name__, __config__=config, **fields), tuple(blocks)


def _field(where: str, annotation: Any, default: Any, description: str | None) -> tuple[Any, Any]:
    if annotation is None or not description:
        raise TypeError(f"{where}: needs an annotation and a line '{where.rpartition('.')[2]}: …' in the docstring")
    return annotation, Field(default, description=description)


def find(name: str) -> Method:
    """The registered method called `name`; UsageError with the nearest name otherwise."""
    if name not in REGISTRY:
        raise UsageError(f"method {name!r}", "is not in the catalogue", nearest(str(name), REGISTRY))
    return REGISTRY[name]


def apply(plan: Plan, steps: Iterable[Mapping[str, Mapping[str, Any] | None]]) -> Plan:
    """Apply an arm: a list of one-key mappings {method: settings}, left to right."""
    for number, step in enumerate(steps):
        if not isinstance(step, Mapping) or len(step) != 1:
            raise UsageError(
                f"step {number} = {step!r}", "must be one {method: settings} pair", "start each method with '- '"
            )
        ((name, settings),) = step.items()
        chosen = find(name)
        plan = chosen.applied(plan, {} if settings is None else settings)
    return plan
