"""Verdicts and votes as rows: pairs with their answers, a judge's own votes, a table of models, training data."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import write_jsonl
from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.nouns import Example, Score, Turn
from mnemos.measure import arena
from mnemos.measure.ask import file_name, load_measured
from mnemos.measure.calibration import read_calibration
from mnemos.measure.correction import rogan_gladen
from mnemos.measure.human import OF_VOTE, Pair, read_pairs
from mnemos.measure.human import row_of as pair_row
from mnemos.measure.items import Item, read_rows
from mnemos.measure.judged import answers_in, by_category
from mnemos.measure.suite import Suite, load_suites
from mnemos.measure.uncertainty import independent, paired
from mnemos.measure.votes import MOST_NAME, Vote, VoteStore, read_votes
from mnemos.rewards.judge import Judge
from mnemos.rewards.panel import Panel
from mnemos.sources.write import row_of


def pairs_in(path: Path, runs: Path | None) -> list[Pair]:
    """Pairs with their answers and votes: rows that hold both, or votes (SQLite, or rows without answers) on the
    answers of runs below `runs`. Raises UsageError where these are needed and not named."""
    if path.name.removesuffix(".gz").endswith((".jsonl", ".json")):
        first = next(iter(read_rows(path)), None)
        # Votes name an item of a run; anything else brings its answers along, or is refused with what is missing.
        if first is None or "answer_a" in first.values or "shown_first" not in first.values:
            return read_pairs(path)
    votes = read_votes(path)
    if runs is None:
        raise UsageError(f"{path}", "holds votes without the answers that they are about", "--runs: where the runs are")
    return answered(votes, runs)


def answered(votes: Sequence[Vote], runs: Path) -> list[Pair]:
    """Votes with the prompts and answers of their runs; one pair for all votes on it. Raises DataError for a vote on
    what is not there."""
    found: dict[tuple[str, ...], Pair] = {}
    prompts: dict[str, Mapping[str, Mapping[str, Item]]] = {}
    for vote in (one.in_order() for one in votes):
        if vote.pair in found:
            pair = found[vote.pair]
            found[vote.pair] = replace(pair, votes={**pair.votes, vote.rater: vote.verdict})
            continue
        folder = _inside(runs, vote.run)
        if vote.run not in prompts:
            prompts[vote.run] = _items(folder)
        item = prompts[vote.run].get(vote.suite, {}).get(vote.item)
        if item is None or item.prompt is None:
            raise DataError(f"vote on item {vote.item!r} of suite {vote.suite!r}", f"is in no suite of {folder}", "")
        texts = [_answer(folder, vote, name) for name in (vote.model_a, vote.model_b)]
        found[vote.pair] = Pair(
            f"{vote.run}/{vote.suite}/{vote.item}",
            item.prompt,
            (texts[0], texts[1]),
            (vote.model_a, vote.model_b),
            {vote.rater: vote.verdict},
        )
    return list(found.values())


def _inside(root: Path, name: str) -> Path:
    """A place below a folder. Raises DataError for a name that leads out of it: votes may come from anybody."""
    place = (root / name).resolve()
    if not place.is_relative_to(root.resolve()):
        raise DataError(f"{name!r} of a vote", f"leads out of {root}", "name the folder that the runs are below")
    return place


def _items(folder: Path) -> Mapping[str, Mapping[str, Item]]:
    from mnemos.study.config import load_study
    from mnemos.study.experiment import suites_of

    path = folder / "study.yaml"
    if not path.is_file():
        raise DataError(f"{folder}", "is no run: it has no study.yaml", "name the folder that the runs are below")
    study, base = load_study(path)
    suites, _, _ = suites_of(study, base)
    return {suite.name: {item.id: item for item in suite.items} for suite in suites}


def _answer(folder: Path, vote: Vote, model: str) -> str:
    place = _inside(folder, model if model in ("before", "after") else f"arms/{model}")
    path = place / "answers" / file_name(vote.suite)
    if not path.is_file():
        raise DataError(f"answers of {model!r} to {vote.suite!r}", f"are not in {folder}", "see what the run holds")
    replies = answers_in(str(path), file_fingerprint(path)).get(vote.item)
    if replies is None:
        raise DataError(f"item {vote.item!r}", f"has no answer of {model!r}", "see what the run holds")
    return replies[-1]


# a judge's own votes ------------------------------------------------------------------------------


def judge_votes(
    made: Judge | Panel,
    suite_name: str,
    answers: Mapping[str, Path],
    out: Path,
    *,
    limit: int | None = None,
    votes: Path | None = None,
    run: str | None = None,
) -> dict[str, int]:
    """Let a judge vote on every two models' answers to a suite, like one more rater; rows with answers, and counts.

    votes, run: a table of people's votes that its own are added to, and the run that they are about; the models are
    then called as the page calls them. Raises DataError where it has voted on one of the pairs there already.
    """
    (suite,) = load_suites([suite_name], Path())[:1]
    texts = {name: answers_in(str(path), file_fingerprint(path)) for name, path in answers.items()}
    counts: Counter[str] = Counter()
    pairs = []
    for a, b in itertools.combinations(sorted(texts), 2):
        for item in suite.items[:limit]:
            if item.prompt is None or item.id not in texts[a] or item.id not in texts[b]:
                counts["left out: no answer on both sides"] += 1
                continue
            both = (texts[a][item.id][-1], texts[b][item.id][-1])
            pairs.append(
                Pair(item.id, item.prompt, both, (a, b), {}, item.answers, item.criteria or "", cluster=item.id)
            )
    if not pairs:
        raise DataError(f"suite {suite.name!r}", "has no item that two models answered", "name files of its answers")
    rows = []
    for pair, verdict in zip(pairs, made.cases([pair.case for pair in pairs]), strict=True):
        if verdict.reason is not None:
            counts[f"left out: {verdict.reason}"] += 1
            continue
        extra = {
            "verdict": verdict.decision,
            "p_first": verdict.first,
            "rater": made.describe(),
            "judge": made.fingerprint,
        }
        rows.append(pair_row(pair, **extra, suite=suite.name, cluster=pair.cluster))
        counts[verdict.decision] += 1
    write_jsonl(out, rows)
    if votes is not None and run is not None:
        VoteStore(votes).add_all(_as_vote(row, suite.name, run) for row in rows)
    return {"pairs": len(pairs), **counts}


def _as_vote(row: Mapping[str, Any], suite: str, run: str) -> Vote:
    """A judge's verdict as a vote. It was asked in both orders, so that neither place came first."""
    rater = str(row["rater"])[:MOST_NAME]
    names = (str(row["model_a"]), str(row["model_b"]))
    return Vote(run, suite, str(row["item"]), *names, shown_first="a", verdict=row["verdict"], rater=rater)


# a table of models --------------------------------------------------------------------------------


def table(paths: Sequence[Path], runs: Path | None, calibration: Path | None = None) -> list[str]:
    """Bradley-Terry over every model of the files, and beside each two their win rate at equal length. calibration:
    of the judge whose verdicts the files hold; wins are then also told with its errors taken off."""
    pairs = [pair for path in paths for pair in pairs_in(path, runs)]
    duels = arena.duels_of(pairs)
    if not duels:
        raise DataError(f"{len(pairs)} pairs", "have no verdict", "vote first, or let a judge vote")
    out = arena.lines(arena.standings(duels))
    by_models: dict[tuple[str, str], list[arena.Duel]] = defaultdict(list)
    for duel in duels:
        by_models[duel.models].append(duel)
    for (a, b), several in sorted(by_models.items()):
        found = arena.length_controlled(several)
        interval = "" if math.isnan(found.low) else f" [{100 * found.low:.1f}, {100 * found.high:.1f}]"
        out.append(
            f"{a} beside {b}: wins {100 * found.raw:.1f} %, at equal length {100 * found.rate:.1f} %{interval} "
            f"({len(several)} verdicts)"
        )
    return out if calibration is None else [*out, *_corrected(duels, paths, calibration)]


def _corrected(duels: Sequence[arena.Duel], paths: Sequence[Path], calibration: Path) -> list[str]:
    """Each model's share of wins by the judge, and corrected by the rates that were found for that model."""
    judges = {str(row.values.get("judge")) for path in paths for row in read_rows(path)}
    if len(judges) != 1:
        raise UsageError(
            f"{len(judges)} judges", "stand in the files, and a calibration is of one", "give one judge's file"
        )
    found = read_calibration(calibration, judges.pop())
    out = []
    for name in sorted({name for duel in duels for name in duel.models}):
        met = [duel for duel in duels if name in duel.models]
        won = [(duel.first if duel.models[0] == name else 1 - duel.first) == 1.0 for duel in met]
        if name not in found:
            out.append(f"{name}: not corrected, since the calibration has no labelled answer of it")
            continue
        # Verdicts on one prompt, beside several models, are not independent.
        size = independent(won, [duel.prompt for duel in met])
        one = rogan_gladen(sum(won) / len(won), size, found[name])
        naive = f"{100 * one.naive:.1f} % [{100 * one.naive_low:.1f}, {100 * one.naive_high:.1f}]"
        value = f"{100 * one.value:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]"
        out.append(f"{name}: wins by the judge {naive}, corrected {value if one.reason is None else one.reason}")
    return out


# tables by category --------------------------------------------------------------------------------


def categories(suite_name: str, before: Path, after: Path) -> list[str]:
    """What a judged suite's kept scores say by category of the items, before and after; asks nobody. before, after: the
    files of answers that were measured."""
    (suite,) = load_suites([suite_name], Path())[:1]
    sides = [_scores(suite, path) for path in (before, after)]
    rows = {**by_category(suite.items, sides[0]), "all": sides[0]}
    if len(rows) == 1:
        raise UsageError(f"suite {suite.name!r}", "has no item with a category", "category: in its items")
    own = {**by_category(suite.items, sides[1]), "all": sides[1]}
    out = ["| category | items | before | after | change |", "|---|---:|---:|---:|---|"]
    for name, first in rows.items():
        kept = [(a, b) for a, b in zip(first, own[name], strict=True) if a.reason is None and b.reason is None]
        if not kept:
            out.append(f"| {name} | 0 | - | - | no score on both sides |")
            continue
        x, y = [a.value for a, _ in kept], [b.value for _, b in kept]
        found = paired(x, [y], clusters=[a.cluster for a, _ in kept], power=False)
        change = f"{100 * found.delta:+.1f} [{100 * (found.low or 0):+.1f}, {100 * (found.high or 0):+.1f}]"
        means = (100 * sum(side) / len(side) for side in (x, y))
        out.append(f"| {name} | {len(kept)} | {' | '.join(f'{mean:.1f}' for mean in means)} | {change} |")
    return out


def _scores(suite: Suite, path: Path) -> list[Score]:
    if not path.is_file():
        raise UsageError(f"answers {path}", "is not a file", "name a run's answers/<suite>.jsonl")
    measured = load_measured(path.parent).get(suite.name)
    by_item = {} if measured is None else {score.item: score for score in measured.scores}
    absent = [item.id for item in suite.items if item.id not in by_item]
    if absent:
        raise DataError(f"{path}", f"has no score of item {absent[0]!r} of suite {suite.name!r}", "measure the suite")
    return [by_item[item.id] for item in suite.items]


# rows to learn from ---------------------------------------------------------------------------------

Format = Literal["pairs", "kto"]


def export(paths: Sequence[Path], runs: Path | None, out: Path, form: Format) -> dict[str, int]:
    """Rows that training reads: preference pairs, or single answers with a thumb (KTO). Returns counts, those left out
    by reason.

    A pair needs a majority for one answer. For thumbs, the better answer is up and the worse one down, and both are
    down where most raters call both bad; an answer that is up in one pair and down in another as often is left out.
    """
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    thumbs: dict[tuple[Any, str], list[bool]] = defaultdict(list)
    for pair in (pair for path in paths for pair in pairs_in(path, runs)):
        label, raters = _majority(pair)
        if label is None or label == "tie":
            counts["left out: no majority for one answer" if label else "left out: no vote"] += 1
            continue
        if pair.answers[0] == pair.answers[1]:
            counts["left out: both answers are equal"] += 1
            continue
        if form == "kto":
            for place, answer in enumerate(pair.answers):
                thumbs[pair.prompt, answer].append(label == "ab"[place])
            continue
        if label == "both_bad":
            counts["left out: both are bad"] += 1
            continue
        chosen, rejected = pair.answers if label == "a" else pair.answers[::-1]
        meta = {"raters": len(pair.votes), "share": raters / len(pair.votes), "models": list(pair.models)}
        example = Example(
            f"{pair.id}-{len(rows)}", "preference", (*pair.prompt.turns, _reply(chosen)), (_reply(rejected),), meta=meta
        )
        rows.append(row_of(replace(example, variables=pair.prompt.variables)))
    for number, ((prompt, answer), votes) in enumerate(thumbs.items()):
        if 2 * sum(votes) == len(votes):
            counts["left out: up as often as down"] += 1
            continue
        turns = (*prompt.turns, _reply(answer))
        up = 2 * sum(votes) > len(votes)
        rows.append(row_of(Example(str(number), "label", turns, label=up, variables=prompt.variables)))
    if not rows:
        raise DataError(f"{len(paths)} files of votes", f"leave no row ({dict(counts)})", "collect more votes")
    write_jsonl(out, rows)
    return {"rows": len(rows), **counts}


def _reply(text: str) -> Turn:
    return Turn("assistant", text)


def _majority(pair: Pair) -> tuple[str | None, int]:
    """What most raters say, both_bad apart from a tie; a tie where as many say something else; and how many said it."""
    if not pair.votes:
        return None, 0
    ranked = Counter(pair.votes.values()).most_common(2)
    if len(ranked) == 1 or ranked[0][1] > ranked[1][1]:
        return ranked[0]
    # Raters who differ in nothing but the kind of tie agree that neither is better.
    return ("both_bad", ranked[0][1]) if {OF_VOTE[one] for one, _ in ranked} == {"tie"} else ("tie", ranked[0][1])
