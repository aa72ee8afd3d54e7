"""What is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.method import method
from mnemos.core.nouns import Example, Source
from mnemos.core.plan import PastTask, Plan
from mnemos.core.settings import DataRef, Seed
from mnemos.sources.mix import Mixture, Shape
from mnemos.sources.mix import new_share_start as start_of
from mnemos.sources.read import read


@dataclass(frozen=True)
class PastRows:
    """The rows kept of an earlier task, their ids told apart from those of other tasks."""

    task: str
    rows: Source

    @property
    def fingerprint(self) -> str:
        """Of the task's name and its rows."""
        return fingerprint(["PastRows", self.task, self.rows.fingerprint])

    def describe(self) -> str:
        """One line for people."""
        return f"the lot of task {self.task} ({self.rows.describe()})"

    def __iter__(self) -> Iterator[Example]:
        for example in self.rows:
            yield dataclasses.replace(example, id=f"{self.task}/{example.id}")


@method(paper="arXiv:2403.08763", changes={"examples"}, off={"share_of_final": 0.0})
def replay(
    plan: Plan,
    *,
    data: DataRef | None = None,
    share_of_final: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    data_format: str | None = None,
    seed: Seed = 0,
    repeat: bool = False,
    new_share_start: Annotated[float, Field(ge=0, le=1)] | None = None,
    new_share_shape: Shape = "linear",
) -> Plan:
    """Mix stored old rows into the new ones, so that they are learned side by side.

    data: file, Hugging Face dataset directory or hub id of old rows. Without it, in a sequence of
    tasks, the kept rows of the earlier tasks, each with the same share.
    share_of_final: replayed rows as a share of all rows of the mixture, in [0, 1): n new rows get
    share / (1 - share) * n old ones beside them.
    data_format: the format of `data` by its name in `teach.format`; detected unless given.
    seed: added to the arm's seed where old rows are chosen and the mixture is shuffled.
    repeat: use old rows several times where there are fewer than the share asks for; otherwise
    that is refused.
    new_share_start: the share of new rows among those read at the beginning of training, in
    [0, 1]; it changes to 2 * (1 - share_of_final) - new_share_start at the end, so that
    every row is still read as often as any other. With share_of_final 0.5, a start at 0 reads old
    rows only at first and new ones only at last. Unset, rows are read in a random order. A share
    at the end outside [0, 1] is refused.
    new_share_shape: of the way there: linear, cosine (slowly at both ends) or step (at once, half
    way).

    Trap: other tools give one number four meanings: the share of the replay file that is kept, a
    normalised sampling probability, a number of rows, and the share of the final set. It is the
    last one here, counted in rows, not tokens.

    Trap: all new rows stay, so an epoch grows longer with the share. Two replays in one arm are
    taken in order, and the second share dilutes the first.

    Trap: under new_share_start old means all rows that are not of the new task, whichever method
    added them, and with train.packing shares are counted in packed rows, each of one kind only.

    The first task of a sequence has nothing to replay: there, without data, the method changes
    nothing, and the history says so.

    Deviations from the paper: 1. the share holds over the whole set, not in each batch. 2. old
    rows are added to the new ones instead of taking the place of some.

    Raises UsageError where there is neither data nor an earlier task's kept rows. A mixture that
    needs more old rows than exist raises DataError when a study is planned, and when it is read.
    """
    if share_of_final == 0:
        return plan
    old = _old_rows(plan, data, data_format)
    if not old:
        return plan
    _check_start(plan, share_of_final, new_share_start)
    mixed = mixture(plan.examples, old, share_of_final, plan.seed + seed, repeat=repeat)
    mixed = dataclasses.replace(mixed, new_share_start=new_share_start, new_share_shape=new_share_shape)
    return dataclasses.replace(plan, examples=mixed)


def _check_start(plan: Plan, share: float, start: float | None) -> None:
    """The bounds as far as they are known before rows are read; training looks again."""
    if start is None:
        return
    # The share at the end, 2 (1 - share) - start, must lie in [0, 1]; solved for start.
    low, high = max(0.0, 1 - 2 * share), min(1.0, 2 * (1 - share))
    if not low <= start <= high:
        raise UsageError(
            f"replay.new_share_start = {start:g}",
            f"with share_of_final = {share:g} the share of new rows at the end would be {2 * (1 - share) - start:g}",
            f"set it between {low:g} and {high:g}",
        )
    if start_of(plan.examples) is not None:
        raise UsageError("replay.new_share_start", "is set twice in one arm", "order the rows once, in the last replay")


def _old_rows(plan: Plan, data: str | None, data_format: str | None) -> tuple[Source, ...]:
    """One source per origin of old rows; none only at the first task of a sequence."""
    if data is not None:
        return (read(data, format=data_format),)
    return tuple(PastRows(task.name, rows) for task, rows in with_rows(plan, "replay.data = null", "replay.data"))


def with_rows(plan: Plan, value: str, setting: str | None = None) -> list[tuple[PastTask, Source]]:
    """Earlier tasks that kept their rows; none only at the first task of a sequence. Raises
    UsageError otherwise. value: what is missing, for the message. setting: the one that could name
    old rows, if there is one."""
    kept = [(task, task.examples) for task in plan.past if task.examples is not None]
    if not kept and (plan.past or not plan.sequence):
        cures = [f"name a file in {setting}"] * (setting is not None)
        cures += ["set keep: true under the earlier tasks"] if plan.past else []
        raise UsageError(
            value,
            "there are no old rows: " + ("no earlier task kept its own" if plan.past else "this is not a sequence"),
            ", or ".join(cures) or "teach a list of tasks",
        )
    return kept


def mixture(new: Source, old: Sequence[Source], share: float, seed: int, **more: Any) -> Mixture:
    """Mixtures inside one another, such that each old source ends with share / len(old) of all.

    When i of k sources are in, the set is 1 - (k - i) * batch of the final one, and the i-th
    source has `batch` of the final one. more: further fields of each `Mixture`.
    """
    batch = share / len(old)
    for i, source in enumerate(old, start=1):
        new = Mixture(new, source, batch / (1 - (len(old) - i) * batch), seed, **more)
    assert isinstance(new, Mixture)
    return new
