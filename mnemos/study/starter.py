"""The study file that `mnemos init` writes, as text with comments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mnemos.core.errors import printable
from mnemos.core.yaml_text import read_yaml, yaml_scalar
from mnemos.measure.power import mcnemar_detectable
from mnemos.measure.probe import ABILITIES, Ability, Probe, shown, what_of
from mnemos.measure.suite import BUILT_IN
from mnemos.study.proposal import Facts, Proposal, duration
from mnemos.train.rates import size

ITEMS = 64
"""Items of each old suite to begin with."""


@dataclass(frozen=True)
class StarterFacts:
    """What the file is about. thinking: whether the rows' answers think, where the template can; None where it
    cannot. documents: whether the rows are texts and no chats."""

    model: str
    data: str
    study: Path
    train: Path
    suite: Path
    described: str
    rows: int
    held: int
    documents: bool
    thinking: bool | None


def study_text(starter: StarterFacts, facts: Facts | None, proposal: Proposal, found: Probe | None) -> str:
    """The whole file."""
    parts = [_head(starter, facts), _suites(starter, found), _arms(starter, facts, proposal), _train(facts, proposal)]
    return "\n".join("\n".join(part) for part in parts) + "\n"


def _head(starter: StarterFacts, facts: Facts | None) -> Iterator[str]:
    run = Path("runs") / starter.study.stem
    name, rows = printable(Path(starter.model).name), printable(Path(starter.data).name)
    yield f"# Teach {name} what is in {rows}, several ways, and see what each way loses."
    yield f"#   mnemos run {starter.study} --dry-run    print every plan, load no model"
    yield f"#   mnemos run {starter.study}              train, measure, write {run}/report.html"
    about = "" if facts is None else f"   # {facts.family}, {size(facts.parameters)} parameters"
    yield f"model: {yaml_scalar(starter.model)}{about}"
    if starter.thinking is not None:
        word = str(starter.thinking).lower()
        why = "the rows' answers think" if starter.thinking else "the rows' answers do not think"
        yield f"chat_template_kwargs: {{enable_thinking: {word}}}   # in training and measurement; {why}"
    if facts is not None and facts.chat:
        yield "# system: a system prompt for every chat that has none of its own, in training and measurement"
    yield ""
    yield "teach:"
    yield f"  data: {yaml_scalar(starter.train.name)}      # {printable(starter.described)}"
    yield ""


def _suites(starter: StarterFacts, found: Probe | None) -> Iterator[str]:
    name = yaml_scalar(f"suites/{starter.suite.name}")
    yield "suites:                           # measured before and after, on one frozen manifest"
    yield "  new:                            # what is taught"
    edit = "" if starter.documents else "; edit match: exact | normalised | number | regex | json"
    yield f"    - {name}   # {starter.held} held-out rows{edit}"
    kept = [one for one in found.abilities if one.verdict == "kept"] if found else []
    yield f"  old:{'' if kept else ' []':<28} # what must not be lost"
    if kept:
        points = round(100 * mcnemar_detectable(0.1, ITEMS))
        yield f"    # {ITEMS} items of each show a loss of about {points} points; raise limit to see smaller ones"
    for one in kept:
        yield f"    # {what_of(one.suite)}: {_score(one)}"
        yield f"    - {_limited(one.suite)}"
    for one in found.abilities if found else ():
        if one.verdict != "kept":
            yield f"    # - {one.suite}   # {one.verdict}: {_why(one)}"
    if found is None:
        yield "    # built in, for any chat model:"
        yield from (f"    # - {name:<24} # {what}" for name, what in ABILITIES.items())
    yield "    # of your own, for example:"
    yield "    # - suites/refusals.yaml       #   {name: refusals, kind: refusal, data: refusals.jsonl}"
    yield "    # - suites/english.yaml        #   {name: english, kind: bits_per_byte, data: english.jsonl}"
    yield ""


def _why(one: Ability) -> str:
    why = " ".join(printable(one.why).split())
    return f"{_score(one)}; {why}" if one.mean is not None else why


def _score(one: Ability) -> str:
    return f"{shown(one)} of {one.items} items"


def _limited(suite: str) -> str:
    """A built-in suite with a limit, written in place."""
    values = read_yaml(BUILT_IN / f"{suite.replace(':', '-')}.yaml")
    values["data"] = f"mnemos:suites/{values['data']}"
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in {**values, "limit": ITEMS}.items()) + "}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return yaml_scalar(value) if isinstance(value, str) else str(value)


def _arms(starter: StarterFacts, facts: Facts | None, proposal: Proposal) -> Iterator[str]:
    yield "arms:                             # each arm is a list of methods, applied left to right"
    yield "  # plain (no method) is always there"
    lora = f"{{rank: 16, learning_rate: {_rate(proposal.lora_rate)}}}"
    yield f"  lora: [{{lora: {lora}}}]   # all linear layers, ten times the full rate"
    if facts is not None and facts.chat and not starter.documents:
        yield "  # no rows like those it learned from? the model writes its own (a chat model only)"
        yield "  own-replay: [{magpie: {share_of_final: 0.1}}]"
    yield "  kl: [{kl_to_before: {coefficient: 0.1}}]"
    yield '  half-way: [{weights: {expression: "0.5*after + 0.5*before"}}]   # costs no training of its own'
    yield "  # replay: [{replay: {data: old.jsonl, share_of_final: 0.1}}]      # where you have rows like those"
    yield "  # more: mnemos methods"
    yield ""


def _train(facts: Facts | None, proposal: Proposal) -> Iterator[str]:
    yield "train:"
    about = f"usual for {size(facts.parameters)} parameters" if facts else "usual for 0.3 to 3 B parameters"
    yield f"  learning_rate: {_rate(proposal.learning_rate)}          # {about}; --dry-run warns of unusual ones"
    yield "  warmup_ratio: 0.03"
    yield f"  num_train_epochs: {proposal.epochs}"
    rows = proposal.batch * proposal.accumulation
    yield f"  per_device_train_batch_size: {proposal.batch}"
    yield f"  gradient_accumulation_steps: {proposal.accumulation}     # {rows} rows a step, as memory allows"
    yield f"  max_length: {proposal.max_length}"
    if proposal.checkpointing:
        yield "  gradient_checkpointing: true       # less memory, about a third more time"
    yield "  # save_steps left out: a checkpoint about every five minutes, and a stopped run continues"
    yield ""
    if proposal.seconds:
        yield f"# About {duration(proposal.seconds)} for each full training, when nothing else runs."
    yield "seeds: [0]                        # one first; [0, 1, 2] for verdicts about a way of training"


def _rate(value: float) -> str:
    """Like 2.0e-05: a number in every YAML."""
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}e{int(power)}"
