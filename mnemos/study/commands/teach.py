"""`mnemos teach`: look, propose, race, prove, hand over."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mnemos.core.errors import RunError, UsageError
from mnemos.core.files import read_json, read_jsonl, write_json, write_jsonl, write_text
from mnemos.core.fingerprint import fingerprint
from mnemos.core.names import data_name
from mnemos.core.places import resolved
from mnemos.study.commands.clean import note_steps
from mnemos.study.engines import AskedEngine
from mnemos.study.lock import locked
from mnemos.study.paths import data_location, model_location
from mnemos.study.run import Record
from mnemos.study.stopping import terminable
from mnemos.study.teach.budget import Budget, parse
from mnemos.weights.push import check_hub, push

if TYPE_CHECKING:
    from mnemos.measure.suite import Suite
    from mnemos.study.teach.look import Look
    from mnemos.study.teach.propose import Proposal
    from mnemos.study.teach.prove import Proof
    from mnemos.study.teach.race import Means, Raced

FILE = "teach.json"
"""What a teaching found, for people, for `--after` and for programs."""

LOOK = "look.json"
"""What was seen and measured at the start: kept, because times are never the same twice."""

PLAN = "plan.yaml"
"""The proposal as a study file."""

MAX_LOSS = 5.0

ITEMS = 800

Outcome = Literal["handed over", "lost", "cannot tell", "known", "planned"]


@dataclass(frozen=True)
class Taught:
    """What came of it. outcome: handed over (gain proven, every old suite kept), lost (a loss is proven), cannot tell,
    known (the model could do it already, nothing was trained), planned (only the plan was written). exit_code: as of
    `mnemos gate`: 0, 3, 4. arm: the chosen one. model: its directory, None where there is none. reasons: in words.
    comparisons: of the model on held-out items. tokens: trained, by all arms. record: of the proof, with all seeds.
    directory: where everything lies."""

    outcome: Outcome
    exit_code: int
    arm: str | None
    model: Path | None
    reasons: tuple[str, ...]
    comparisons: tuple[Any, ...]
    tokens: int
    record: Record | None
    directory: Path


@dataclass(frozen=True)
class _Asked:
    """What was asked for, and where. earlier, earlier_rows: suites and files of rows of earlier teachings.
    earlier_old_rows: where the old rows lie that these were given."""

    data: str
    model: str
    suites: tuple[Any, ...]
    new: tuple[Any, ...]
    old_rows: str | None
    earlier: tuple[Mapping[str, Any], ...]
    earlier_rows: tuple[str, ...]
    earlier_old_rows: tuple[str, ...]
    budget: Budget
    max_loss: float
    items: int
    seed: int
    root: Path
    here: Path
    after: Path | None
    plan: Path | None

    @property
    def rehearsed(self) -> Path:
        """Where the rows of earlier teachings are, and the old rows beside them, in one file."""
        return self.root / "rows" / "earlier.jsonl"


def teach(
    data: str | Path,
    model: str | Path | None = None,
    *,
    after: str | Path | None = None,
    budget: str = "2h",
    price: float | None = None,
    suites: Sequence[Any] = (),
    new: Sequence[Any] = (),
    old_rows: str | Path | None = None,
    max_loss: float = MAX_LOSS,
    items: int = ITEMS,
    plan: str | Path | None = None,
    out: str | Path | None = None,
    plan_only: bool = False,
    push_to_hub: str | None = None,
    seed: int = 0,
    engine: AskedEngine = None,
    jobs: int | None = None,
    quiet: bool = False,
    say: Callable[[str], None] | None = None,
) -> Taught:
    """Teach a model rows, prove that nothing else was lost, and hand it over.

    data: the rows. model: the model before. after: the directory of an earlier teaching, whose model is taught on and
    whose new suites are now old ones. budget: a time (turned into work by the speed measured at the start), a number of
    tokens, or money. price: of an hour of this machine, for a budget in money. suites: old suites beside the built-in
    ones. new: suites that measure what is taught, in place of held-out rows. old_rows: rows to rehearse. max_loss: the
    largest loss allowed on any old suite, in points. items: of each suite at most, half of them to choose by and half
    to prove on. plan: a study file, such as an edited plan, whose arms and training settings are raced in place of
    those proposed. out: runs/teach-<rows> unless given; the same call continues there. plan_only: write the plan and
    stop. push_to_hub: the repository on the hub, private if it is new, that gets a model whose outcome is "handed
    over". seed: of every training. say: is told where it stands.
    Raises UsageError for a budget below one arm's cost, DataError for rows that cannot be taught or measured.
    """
    line = say or (lambda text: None)
    if push_to_hub is not None:
        # Before hours of work: a name, a network and a token with rights.
        check_hub(push_to_hub)
    asked = _asked(data, model, after, parse(budget, price), suites, new, old_rows, max_loss, items, seed, plan, out)
    with terminable(), locked(asked.root):
        found = _taught(asked, plan_only, engine, jobs, quiet, line)
    if push_to_hub is not None and found.model is not None:
        _pushed(found, push_to_hub, line)
    return found


def _pushed(found: Taught, name: str, say: Callable[[str], None]) -> None:
    """Send the model to the hub; one whose proof is wanting stays here, because others would take it for proven."""
    if found.outcome != "handed over" or found.model is None:
        say(f"hub     not pushed: {found.outcome}")
        return
    say(f"hub     {push(found.model, name)}")


def _asked(
    data: str | Path,
    model: str | Path | None,
    after: str | Path | None,
    budget: Budget,
    suites: Sequence[Any],
    new: Sequence[Any],
    old_rows: str | Path | None,
    max_loss: float,
    items: int,
    seed: int,
    plan: str | Path | None,
    out: str | Path | None,
) -> _Asked:
    here = Path.cwd()
    if not 0 < max_loss < 100:
        raise UsageError(f"--max-loss {max_loss:g}", "must be points above 0 and below 100", "5 allows five points")
    if items < 40:
        raise UsageError(f"--items {items}", "are too few to choose by and to prove on", "give 40 or more")
    if (model is None) == (after is None):
        raise UsageError("--model and --after", "name the model before: exactly one of them", "give --model M")
    place = data_location(str(data), here)
    root = resolved(Path(out) if out is not None else Path("runs") / f"teach-{data_name(str(data), 'rows')}")
    earlier: tuple[Mapping[str, Any], ...] = ()
    files: tuple[str, ...] = ()
    old_files: tuple[str, ...] = ()
    if after is not None:
        before = _earlier(Path(after))
        if resolved(Path(after)) == root:
            raise UsageError(f"--out {root}", "is the earlier teaching itself", "choose another --out")
        model, earlier, files = before["model"], (*before["old"], *before["new"]), tuple(before["rows"])
        old_files = tuple(before.get("old_rows", ()))
    return _Asked(
        data=place,
        model=model_location(str(model), here),
        suites=tuple(str(one) if isinstance(one, Path) else one for one in suites),
        new=tuple(str(one) if isinstance(one, Path) else one for one in new),
        old_rows=None if old_rows is None else data_location(str(old_rows), here),
        earlier=earlier,
        earlier_rows=files,
        earlier_old_rows=old_files,
        budget=budget,
        max_loss=max_loss,
        items=items,
        seed=seed,
        root=root,
        here=here,
        after=None if after is None else resolved(Path(after)),
        plan=None if plan is None else resolved(Path(plan)),
    )


def _earlier(place: Path) -> dict[str, Any]:
    file = place / FILE
    if not file.is_file():
        raise UsageError(
            f"--after {place}", f"holds no {FILE}: nothing was handed over there", "name a teaching's --out"
        )
    found: dict[str, Any] = read_json(file)
    if not found.get("model"):
        raise UsageError(f"--after {place}", "handed no model over", "teach it first, or name another one")
    return found


def _taught(
    asked: _Asked, plan_only: bool, engine: AskedEngine, jobs: int | None, quiet: bool, say: Callable[[str], None]
) -> Taught:
    from mnemos.measure.suite import load_suites
    from mnemos.study.teach.propose import arms_of, fitted, propose, settings
    from mnemos.study.teach.race import Means, race
    from mnemos.study.teach.suites import refuse_leaks, rehearsed

    found = _looked(asked, say)
    if found.known:
        return _known(asked, found, say)
    suites = load_suites([*found.new, *found.old], asked.here)
    _write_earlier_rows(asked, suites, say)
    kept = str(asked.rehearsed) if asked.earlier_rows else None
    train, own = fitted(settings(found.rows, found.parameters), asked.model), None
    if asked.plan is not None:
        own, train = arms_of(asked.plan, found, asked.model, asked.seed)
    proposal: Proposal = propose(
        found, train, asked.budget, old_rows=kept or asked.old_rows, wanted=asked.items, own=own
    )
    refuse_leaks(suites, rehearsed(step for arm in proposal.arms for step in arm.steps))
    _write_plan(asked, found, proposal, say)
    _refuse_full(asked, found, proposal, say)
    if plan_only:
        return Taught("planned", 0, None, None, (), (), 0, None, asked.root)
    means = Means(asked.root, engine, jobs, quiet)
    raced = race(proposal, found, asked.model, means, max_loss=asked.max_loss, seed=asked.seed, say=say)
    say(f"race    chosen: {raced.chosen.name}, {raced.chosen.why}; {raced.tokens:,} tokens trained")
    return _proven(asked, raced, proposal, found, means, say)


def _write_earlier_rows(asked: _Asked, suites: Sequence[Suite], say: Callable[[str], None]) -> None:
    """The rows of earlier teachings in one file, and the old rows that they and this one were given; without those that
    a suite asks now: rehearsed, they would be learned by heart, and nobody can take them out of a teaching that is
    done."""
    from mnemos.sources.read import read
    from mnemos.sources.write import row_of
    from mnemos.study.teach.suites import asked as question_of
    from mnemos.study.teach.suites import question

    if not asked.earlier_rows:
        return
    found = [row for file in asked.earlier_rows for row in read_jsonl(file)]
    old = [row_of(example) for place in _old_places(asked) for example in read(place, on_bad="skip")]
    # One file has rows of one form.
    form = next(key for key in ("messages", "completion", "text", "prompt") if key in found[0])
    alike = [row for row in old if form in row]
    if len(alike) < len(old):
        say(f"rows    {len(old) - len(alike):,} old rows have no {form}, as the taught ones have: not rehearsed")
    rows = [{**row, "id": str(number)} for number, row in enumerate([*found, *alike])]
    write_jsonl(asked.rehearsed, rows)
    measured = {question(item) for suite in suites for item in suite.items}
    leaks = {example.id for example in read(str(asked.rehearsed)) if question_of(example) in measured}
    if leaks:
        write_jsonl(asked.rehearsed, [row for row in rows if row["id"] not in leaks])
        say(f"rows    {len(leaks):,} of earlier teachings are not rehearsed: a suite asks them now")


def _old_places(asked: _Asked) -> list[str]:
    """Where the old rows of earlier teachings and of this one lie, each once."""
    own = [] if asked.old_rows is None else [asked.old_rows]
    return list(dict.fromkeys([*asked.earlier_old_rows, *own]))


def _known(asked: _Asked, found: Look, say: Callable[[str], None]) -> Taught:
    reason = "the model gives these answers already: nothing was trained"
    say(f"known   {reason}")
    _record(asked, found, Path(asked.model), {"outcome": "known", "reasons": [reason]})
    return Taught("known", 0, None, Path(asked.model), (reason,), (), 0, None, asked.root)


def _write_plan(asked: _Asked, found: Look, proposal: Proposal, say: Callable[[str], None]) -> None:
    from mnemos.study.teach.propose import plan_text, proof_words, race_words, study_of

    study = study_of(
        found, asked.model, proposal.arms, proposal.train, proposal.items, "development", name="plan",
        seeds=[asked.seed],
    )  # fmt: skip
    for arm in proposal.arms:
        say(f"plan    {arm.name}: {arm.why}")
    say(f"plan    {proof_words(found, proposal.proof_items, asked.max_loss)}")
    say(f"plan    {race_words(proposal.schedule)}: {asked.budget.shown(proposal.schedule.cost)} at most")
    text, file = plan_text(found, proposal, study, asked.budget, _command(asked)), asked.root / PLAN
    if asked.plan == file:
        return
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        say(f"plan    {file} was edited, or is that of another budget: it stays as it is; --plan {file} races its arms")
        return
    write_text(file, text)
    say(f"plan    written to {file}")


def _refuse_full(asked: _Asked, found: Look, proposal: Proposal, say: Callable[[str], None]) -> None:
    """Say how much disk the race's models take, and raise RunError where there is less."""
    from mnemos.models.load import Checkpoint
    from mnemos.report.words import size
    from mnemos.train.estimate import saved_width

    layout = proposal.schedule
    # Each arm of each rung; at the last one also a combination, and every one of them half-way back.
    models = sum(layout.arms) + layout.arms[-1] + 2 + layout.seeds
    each = found.parameters * saved_width(Checkpoint(asked.model))
    needed, free = each * models, shutil.disk_usage(asked.root).free
    say(f"plan    about {size(needed)} of disk for {models} models, {size(free)} are free")
    if needed > free:
        raise RunError(
            f"{asked.root}", f"has {size(free)} of disk left; the race writes about {size(needed)}",
            "free some, choose another --out, or give a smaller --budget, which races fewer arms",
        )  # fmt: skip


def _proven(
    asked: _Asked, raced: Raced, proposal: Proposal, found: Look, means: Means, say: Callable[[str], None]
) -> Taught:
    from mnemos.study.teach.prove import CODES, as_dict, lines, needed, prove

    seeds = proposal.schedule.seeds
    say(f"proof   {raced.chosen.name} on held-out items, {seeds} seed{'s' if seeds > 1 else ''}")
    proof = prove(raced, proposal, found, asked.model, means, max_loss=asked.max_loss, seed=asked.seed)
    for line in lines(proof):
        say(line)
    place = _handed(asked, proof, raced, proposal, found, say)
    for line in needed(proof) if proof.outcome != "handed over" else []:
        say(f"needed  {line}")
    tokens = sum({**raced.trained, **proof.carried.trained}.values())
    rungs = [
        {
            "rows": rung.rows,
            "places": [asdict(place) for place in rung.places],
            "left": list(rung.left),
            "failed": dict(rung.failed),
        }
        for rung in raced.rungs
    ]
    # What only arms that were not chosen needed may be removed from here on: `mnemos runs clean`.
    note_steps(asked.root, [step.key for step in proof.carried.experiment.steps])
    _record(asked, found, place, {"arm": raced.chosen.name, "tokens": tokens, "rungs": rungs, **as_dict(proof)})
    return Taught(
        proof.outcome,
        CODES[proof.outcome],
        raced.chosen.name,
        place,
        proof.reasons,
        proof.comparisons,
        tokens,
        proof.carried.record,
        asked.root,
    )


def _handed(
    asked: _Asked, proof: Proof, raced: Raced, proposal: Proposal, found: Look, say: Callable[[str], None]
) -> Path | None:
    from mnemos.study.teach.hand_over import gate_line, hand_over
    from mnemos.study.teach.race import places_lines

    if proof.outcome == "lost":
        say("lost    no arm is known to learn without a proven loss; nothing is handed over. What each did at the end:")
        for line in places_lines(raced.rungs[-1].places, raced.rungs[-1].failed):
            say(line)
        for name in ("model", "adapter"):
            # An earlier race here, with another budget, may have handed one over: it must not be taken for this one's.
            shutil.rmtree(asked.root / name, ignore_errors=True)
        return None
    place = hand_over(asked.root, proof, raced, proposal, found, asked.model, max_loss=asked.max_loss, seed=asked.seed)
    word = "done    " if proof.outcome == "handed over" else "unsure  "
    say(f"{word}{place}; report {asked.root / 'report.html'}")
    say(f"{word}{gate_line(asked.model, asked.root, asked.max_loss)}")
    return place


def _record(asked: _Asked, found: Look, model: Path | None, more: Mapping[str, Any]) -> None:
    """Write what a later teaching and programs read; last, so that it is there only where all is done."""
    value = {
        "model": None if model is None else str(model),
        "before": asked.model,
        "max_loss": asked.max_loss,
        "new": list(found.new),
        "old": list(found.old),
        "rows": [found.rows.file, *asked.earlier_rows],
        "old_rows": _old_places(asked),
        **more,
    }
    write_json(asked.root / FILE, value)


def _looked(asked: _Asked, say: Callable[[str], None]) -> Look:
    """The look, taken once: what is timed is kept, so that a continued race is the same race."""
    from mnemos.measure.suite import load_suites
    from mnemos.models.load import Checkpoint
    from mnemos.sources.read import read
    from mnemos.study.teach.look import Look, look, rows_lines
    from mnemos.study.teach.propose import fitted, settings
    from mnemos.study.teach.suites import refuse_leaks, rehearsed

    model = Checkpoint(asked.model)
    own = load_suites([*asked.suites, *asked.new, *asked.earlier], asked.here)
    if asked.old_rows is not None:
        # Here for a refusal before the look's minutes; those that the look itself holds out are compared after it.
        refuse_leaks(own, rehearsed([{"replay": {"data": asked.old_rows}}]))
    # All that a look depends on: its findings hold for no other rows, suites or loss.
    suites = [suite.fingerprint for suite in own]
    name = fingerprint([read(asked.data), model, suites, len(asked.new), asked.max_loss])
    file = asked.root / LOOK
    if file.is_file():
        kept = read_json(file)
        if kept["asked"] != name:
            raise UsageError(
                f"{asked.root}",
                "holds another teaching (other rows, model, suites or --max-loss)",
                "choose another --out",
            )
        found = Look.of(kept["look"])
        for line in rows_lines(found.rows):
            say(line)
        say(f"look    taken before, in {file}")
        return found
    made = look(
        asked.data,
        model,
        asked.root / "rows",
        suites=asked.suites,
        new=asked.new,
        earlier=asked.earlier,
        max_loss=asked.max_loss,
        train=lambda rows, parameters: fitted(settings(rows, parameters), asked.model),
        say=say,
        here=asked.here,
    )
    write_json(file, {"asked": name, "look": made.as_dict()})
    return made


def _command(asked: _Asked) -> str:
    """The command line that asks for the same; suites that Python gave as mappings have none."""
    amount = f"{asked.budget.amount:.0f}s" if asked.budget.unit == "seconds" else f"{asked.budget.amount:.0f} tokens"
    words = ["mnemos", "teach", asked.data]
    words += ["--model", asked.model] if asked.after is None else ["--after", str(asked.after)]
    words += ["--budget", amount]
    words += [word for suite in asked.suites if isinstance(suite, str) for word in ("--suites", suite)]
    words += [word for suite in asked.new if isinstance(suite, str) for word in ("--new", suite)]
    given = {
        "--price": asked.budget.price,
        "--old-rows": asked.old_rows,
        "--max-loss": asked.max_loss,
        "--items": asked.items,
        "--seed": asked.seed,
    }
    usual = {"--price": None, "--old-rows": None, "--max-loss": MAX_LOSS, "--items": ITEMS, "--seed": 0}
    words += [word for name, value in given.items() if value != usual[name] for word in (name, _text(value))]
    return shlex.join([*words, "--out", str(asked.root)])


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
