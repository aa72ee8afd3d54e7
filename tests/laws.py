"""The four laws of a method, as checks that raise AssertionError, and the plan they start from."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mnemos.core.errors import UsageError
from mnemos.core.files import write_jsonl
from mnemos.core.method import Method
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import CHANGEABLE, PastTask, Plan
from mnemos.core.settings import TrainSettings
from mnemos.sources.mix import Rows
from mnemos.sources.write import row_of


@dataclass(frozen=True)
class Handle:
    """A checkpoint that the laws never load."""

    path: str
    fingerprint: str = "0123456789abcdef"

    def load(self) -> Any:
        raise AssertionError("a method loaded a model while it was applied")


def rows(name: str, count: int) -> Rows:
    made = (
        Example(f"{name}-{i}", "messages", (Turn("user", f"{name} {i}?"), Turn("assistant", f"{i}.")))
        for i in range(count)
    )
    return Rows(tuple(made), name)


def base_plan(**changed: Any) -> Plan:
    """The third task of a sequence, with the rows of both earlier ones."""
    past = (
        PastTask("one", rows("one", 8), Handle("after-one")),
        PastTask("two", rows("two", 8), Handle("after-two")),
    )
    plan = Plan(rows("new", 6), Handle("before"), task="three", seed=3, train=TrainSettings(), past=past, sequence=True)
    return dataclasses.replace(plan, **changed)


_FILES = tempfile.TemporaryDirectory()


def data_file(kind: str) -> str:
    """A file of twenty rows of that format, kept until Python ends."""
    path = Path(_FILES.name) / f"{kind}.jsonl"
    write_jsonl(path, (row_of(example) if kind == "messages" else {"text": example.id} for example in rows(kind, 20)))
    return str(path)


def example_of(method: Method) -> dict[str, Any]:
    """The method's example settings, with a file that exists in place of the one that they name."""
    return {name: TEXTS[method.name, name][0] if name == "data" else value for name, value in method.example.items()}


TEXTS: dict[tuple[str, str], list[Any]] = {
    ("weights", "expression"): ["0.5*after + 0.5*before", "after", "2*after - before", "before + 0*after + after"],
    ("weights", "models"): [{}],
    ("weights", "numbers"): [{}],
    ("freeze", "pattern"): [None, "mlp", r"layers\.0\."],
    ("only", "pattern"): [None, "mlp", r"layers\.0\."],
    ("only", "tasks"): [(), ("one", "three"), ("one",)],
    ("lora", "targets"): ["all-linear", ("q_proj", "v_proj")],
    ("dora", "targets"): ["all-linear", ("q_proj",)],
    ("orthogonal", "targets"): ["all-linear", ("q_proj",)],
    ("continuation", "instruction"): ["Go on.", "Continue this text."],
    ("continuation", "column"): ["text", "seed"],
    ("modal_invariance", "column"): ["text", "seed"],
    ("text_only", "column"): ["text", "seed"],
    ("text_run_kl", "column"): ["text", "seed"],
    ("diva", "column"): ["text", "seed"],
    ("mask_units", "pattern"): [r"<\|unit_\d+\|>", "<[0-9]+>"],
    ("rho1", "reference_model"): ["."],
    ("doremi", "reference_model"): ["."],
    ("doremi", "column"): ["source", "domain"],
    ("mixture", "column"): ["source", "domain"],
    ("mixture", "weights"): [{}, {"web": 1.0, "wiki": 2.0}],
    ("mixture", "run"): [None, "results.json"],
    ("mixture", "arm"): [None, "doremi"],
    ("curriculum", "reference_model"): [None, "."],
    ("dpo", "reference_model"): [None, "."],
    ("dpo", "soft_label"): [None, "preferred"],
    ("kto", "reference_model"): [None, "."],
    ("ewc", "data"): [None],
    ("tts", "command"): ["say {out} {text}", "say -v {voice} {out}"],
    ("tts", "voices"): [("en",), ("a", "b")],
    ("tts", "rate"): [(130, 190), (100, 100)],
    ("tts", "pitch"): [(30, 70), (5, 6)],
    ("augment", "snr"): [(5.0, 20.0), (0.0, 0.0)],
    ("augment", "speed"): [(), (0.9, 1.1)],
    ("augment", "noise"): [None],
    ("augment", "room"): [None],
    ("ewc", "data_format"): [None],
    ("a_gem", "data"): [None],
    ("a_gem", "data_format"): [None],
    ("safety_mix", "data"): [data_file("messages")],
    ("safety_mix", "data_format"): [None],
    ("pretraining_mix", "data"): [data_file("text")],
    **{(name, "relation"): ["relation", "kind"] for name in ("slick", "self_aligning")},
    **{(name, "aliases"): ["aliases"] for name in ("slick", "self_aligning")},
    ("slick", "keep"): [("MaybeKnown",), ("Unknown", "HighlyKnown")],
    ("slick", "unknown_answer"): [None, "I don't know."],
    ("ssr", "author"): [None],
    ("magpie", "author"): [None],
    ("wrap", "author"): ["http://localhost:8000/v1#author"],
    ("textbooks", "author"): ["http://localhost:8000/v1#author"],
    ("textbooks", "data"): [data_file("text")],
    ("sdft", "reference"): [None, "result"],
    ("rephrase", "reference"): [None, "result"],
    ("minimum_change", "reference"): [None, "result"],
    ("selective_self_rehearsal", "reference"): [None, "result"],
    ("self_output", "reference"): [None, "result"],
    ("rephrase", "author"): [None, "http://localhost:8000/v1#author"],
    ("realign", "author"): ["http://localhost:8000/v1#author"],
    ("realign", "task"): [None, "kind"],
    ("realign", "evidence"): [None, "evidence"],
    ("realign", "formats"): [{}, {"open qa": "", "haiku": "Three lines."}],
    ("minimum_change", "editor"): [None, "http://localhost:8000/v1#editor"],
    ("selective_self_rehearsal", "judge"): [None, "http://localhost:8000/v1#judge"],
    ("best_of_n", "power"): [None, {"alpha": 2.0, "block": 4, "steps": 1}],
    ("best_of_n", "reward"): [{"verifier": "normalised"}, {"verifier": "number", "reference": "result"}],
    ("judged_pairs", "reward"): [
        {"verifier": "normalised"},
        {"judge": "self"},
        {"judge": "http://localhost:8000/v1#j"},
    ],
    ("critique_revision", "constitution"): [None],
    ("critique_revision", "reference"): [None, "result"],
    ("critique_revision", "editor"): [None, "http://localhost:8000/v1#editor"],
    ("magpie", "system"): ["", "You help with sums."],
    **{
        (name, "reward"): [{"verifier": "exact"}, {"verifier": "number", "reference": "sum"}]
        for name in ("reinforce", "rloo", "grpo", "ppo")
    },
    ("distillation", "teacher"): ["."],
    ("self_instruct", "author"): [None, "http://localhost:8000/v1#author"],
    ("simulated_dialogues", "simulator"): [None, "http://localhost:8000/v1#user"],
    ("simulated_dialogues", "assistant"): [None, "http://localhost:8000/v1#assistant"],
    ("corpus_synthesis", "domain"): ["orders in a restaurant", "news"],
    ("corpus_synthesis", "words"): [(), ("tea", "Ada Lane")],
    ("corpus_synthesis", "author"): [None, "http://localhost:8000/v1#author"],
    ("evol_instruct", "author"): [None, "http://localhost:8000/v1#author"],
    ("backtranslation", "author"): [None, "http://localhost:8000/v1#author"],
    ("backtranslation", "judge"): ["self", "none", "http://localhost:8000/v1#judge"],
    ("backtranslation", "data"): [data_file("text")],
    ("uld", "teacher"): ["."],
    ("teacher_answers", "teacher"): ["self", "http://localhost:8000/v1#teacher"],
    ("teacher_answers", "shown"): [None],
    ("teacher_answers", "stop"): [(), ("\n\n", "Question:")],
    ("teacher_answers", "reference"): [None, "result"],
    ("select", "per"): [None, "source"],
    ("deita", "per"): [None, "source"],
    ("deita", "judge"): ["self", "http://localhost:8000/v1#judge"],
    ("deita", "complexity_prompt"): [None],
    ("deita", "quality_prompt"): [None],
    ("replay", "data"): [None],
    ("replay", "data_format"): [None],
}
"""Values for settings that are free text; bounds say all about the others."""


def settings_of(method: Method) -> st.SearchStrategy[dict[str, Any]]:
    """Any settings within the method's declared bounds."""
    drawn = {}
    for name, text in method.settings.model_json_schema().get("properties", {}).items():
        texts = TEXTS.get((method.name, name))
        drawn[name] = st.sampled_from(texts) if texts else _values(text, f"{method.name}.{name}")
    required = {name: strategy for name, strategy in drawn.items() if name in method.example}
    optional = {name: strategy for name, strategy in drawn.items() if name not in method.example}
    return st.fixed_dictionaries(required, optional=optional)


def _values(schema: Mapping[str, Any], where: str) -> st.SearchStrategy[Any]:
    match schema:
        case {"anyOf": choices}:
            return st.one_of([_values(choice, where) for choice in choices])
        case {"enum": choices}:
            return st.sampled_from(choices)
        case {"const": value}:
            return st.just(value)
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "null"}:
            return st.none()
        case {"type": "integer"}:
            return st.integers(schema.get("minimum", -5), schema.get("maximum", 40))
        case {"type": "number"}:
            low, high = (
                schema.get("minimum", schema.get("exclusiveMinimum")),
                schema.get("maximum", schema.get("exclusiveMaximum")),
            )
            return st.floats(
                low if low is not None else -10,
                high if high is not None else 10,
                exclude_min="exclusiveMinimum" in schema,
                exclude_max="exclusiveMaximum" in schema,
            )
        case {"type": "array", "items": item}:
            return st.lists(_values(item, where), max_size=3, unique=True).map(tuple)
    raise AssertionError(f"{where}: give values for it in tests.laws.TEXTS ({schema})")


def applied(method: Method, plan: Plan, settings: Mapping[str, Any]) -> Plan | None:
    """The method's plan, or None where it refuses the combination."""
    try:
        return method(plan, **settings)
    except UsageError:
        return None


def off(method: Method, plan: Plan, settings: Mapping[str, Any]) -> None:
    """Whatever else is set, the off settings leave the plan as it was, and history says so."""
    out = method(plan, **{**settings, **method.off})
    assert out.fingerprint == plan.fingerprint, f"{method.name}: off settings change the plan"
    assert out.history[-1].off, f"{method.name}: history does not say off"


def pure(method: Method, plan: Plan, settings: Mapping[str, Any]) -> None:
    """The same in, the same out; plan and settings stay as they were given."""
    start, given = plan.fingerprint, copy.deepcopy(dict(settings))
    first, again = applied(method, plan, settings), applied(method, base_like(plan), settings)
    assert (first is None) == (again is None)
    assert plan.fingerprint == start, f"{method.name} changed the plan that it was given"
    assert dict(settings) == given, f"{method.name} changed its settings"
    if first is not None and again is not None:
        assert first.fingerprint == again.fingerprint, f"{method.name} is not pure"
        assert first.history == again.history


def base_like(plan: Plan) -> Plan:
    """An equal plan that shares no field's object with `plan` where copying allows."""
    return copy.deepcopy(plan)


def declared(method: Method, plan: Plan, settings: Mapping[str, Any]) -> None:
    """Only fields in `changes` differ (the method itself raises), and history grows by one line
    that holds every setting."""
    assert method.changes <= set(CHANGEABLE)
    try:
        out = applied(method, plan, settings)
    except TypeError as error:
        raise AssertionError(str(error)) from error
    if out is None:
        return
    assert out.history[:-1] == plan.history
    line = out.history[-1]
    assert (line.method, line.paper) == (method.name, method.paper)
    assert set(line.settings) == set(method.settings.model_fields)
    assert line.off == (out.fingerprint == plan.fingerprint)


def commute(one: Method, other: Method, plan: Plan, settings: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
    """Methods that change different fields give the same plan in either order."""
    assert not one.changes & other.changes
    first, second = applied(one, plan, settings[0]), applied(other, plan, settings[1])
    if first is None or second is None:
        return
    left, right = applied(other, first, settings[1]), applied(one, second, settings[0])
    assert left is not None, f"{other.name} is refused after {one.name} only"
    assert right is not None, f"{one.name} is refused after {other.name} only"
    assert left.fingerprint == right.fingerprint, f"{one.name} and {other.name} do not commute"


def disjoint(methods: Iterable[Method]) -> list[tuple[Method, Method]]:
    """All pairs of methods that change different fields."""
    pairs = itertools.combinations(sorted(methods, key=lambda method: method.name), 2)
    return [(one, other) for one, other in pairs if not one.changes & other.changes]
