"""Pages of the blind vote: who votes on what, one pair after another, and what the votes come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnemos.serve import places, voting
from mnemos.serve.answers import chosen_pair, files_of
from mnemos.serve.look import cut, link
from mnemos.serve.served import Served
from mnemos.serve.voting import Contest

EVERY_ITEM = 1 << 40


def start_page(served: Served, query: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """Who votes, on which two models and which suite."""
    run = served.run(query)
    sides = places.sides(served.root, run)
    names = [side.name for side in sides]
    a, b = chosen_pair(names, query)
    suites = places.suites(next((side for side in sides if side.name == a), sides[0])) if sides else []
    values = {"names": names, "a": a, "b": b, "suites": suites, "suite": query.get("suite", "")}
    return "start.html", {"run": run, "here": "vote", **values, "rater": query.get("rater", "")}


def vote_page(served: Served, query: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """The next pair of answers that the rater has not voted on."""
    if not all(query.get(name) for name in ("a", "b", "suite", "rater")):
        return start_page(served, query)
    run = served.run(query)
    a, b, suite = query["a"], query["b"], query["suite"]
    rater = voting.rater_named(query["rater"])
    files = files_of(served, run, a, b, suite)
    name = served.index.about(files[0])[0]
    contest = Contest.of(run.id, name, a, b)
    voted = {vote.item for vote in served.votes.of(contest, rater=rater)} if a != b else set()
    # Equal texts, and scores without a text, are nothing to choose between.
    _, differing = served.index.items(*files, show="differs", most=EVERY_ITEM)
    order = voting.in_order(differing, served.seed)
    item = next((one for one in order if one not in voted), None)
    values: dict[str, Any] = {
        "run": run, "here": "vote", "a": a, "b": b, "suite": suite, "rater": rater, "item": item,
        "voted": len(voted & set(order)), "total": len(order),
        "tally": link("/votes", run=run.id),
    }  # fmt: skip
    if item is None:
        return "vote.html", {**values, "prompt": ("", 0), "gold": ("", 0), "texts": []}
    [pair] = served.index.pairs(*files, [item])
    by_name = {a: pair.first.text, b: pair.second.text}
    first = voting.shown_first(contest, item, rater, served.seed)
    order_shown = (contest.model_a, contest.model_b) if first == "a" else (contest.model_b, contest.model_a)
    prompt, gold = served.prompts.of(run, name).items.get(item, ("", ""))
    return "vote.html", {
        **values, "prompt": cut(prompt), "gold": cut(gold), "texts": [cut(by_name[one], 20_000) for one in order_shown],
    }  # fmt: skip


def tally_page(served: Served, query: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """What all votes on a run, or on all runs, come to so far, and how raters agree."""
    run = served.run(query) if query.get("run") else None
    votes = served.votes.of(None, **({"run": run.id} if run else {}))
    return "votes.html", {
        "run": run,
        "here": "votes",
        "count": len(votes),
        "tallies": voting.tallies(votes),
        "agreements": voting.agreements(votes)[:200],
        "alpha": voting.alpha(votes),
        "reasons": [vote for vote in reversed(votes) if vote.reason][:30],
    }
