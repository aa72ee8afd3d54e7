"""Steps: the cached units of work of a run.

A step's directory is `steps/<key>`; the key is the fingerprint of everything that can change its
result: inputs by content, settings, library versions, device. A step is finished exactly when its
`done.json` exists, which is written last and atomically; anything else in the directory is
unfinished work that the step itself knows how to continue or overwrite.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from mnemos.core.errors import MnemosError, RunError
from mnemos.core.files import read_json, write_json, write_text
from mnemos.core.fingerprint import fingerprint
from mnemos.core.inputs import noted_files, watched
from mnemos.core.nouns import LanguageModel, Source
from mnemos.core.places import shown
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.progress import doing, note
from mnemos.sources.generated import GeneratedSource, generated_in, inside, materialize, too_few
from mnemos.sources.write import Kept, keep
from mnemos.study import first_look, processes

if TYPE_CHECKING:
    from mnemos.measure.ask import Measured
    from mnemos.measure.suite import Suite
    from mnemos.models.language import LocalModel


@lru_cache(maxsize=1)
def surroundings() -> dict[str, str]:
    """Library versions, device and the dtype that is fast on it: part of every key, so that nothing is compared
    across them."""
    from mnemos.measure.manifest import hardware, versions

    here = hardware()
    return {**versions(), "device": str(here["device"]), "dtype": str(here["dtype"])}


@dataclass(frozen=True)
class StepModel:
    """The model that a step will leave behind; usable as a handle before it exists."""

    root: Path
    key: str
    moment: int = 0
    """Which stretch of a training it was at the end of; 0 is the end of the training."""
    trust_remote_code: bool = False
    allow_pickle: bool = False
    torch_dtype: str | None = None
    """These three as in `models.load.Checkpoint`: an adapter is read together with its base."""

    @property
    def path(self) -> str:
        """The Hugging Face directory."""
        place = self.root / "steps" / self.key
        return str((place / "moments" / str(self.moment) if self.moment else place) / "model")

    @property
    def fingerprint(self) -> str:
        """The step's key: its inputs decide its output."""
        return f"{self.key}-{self.moment}" if self.moment else self.key

    def load(self) -> LocalModel:
        """Load it; RunError when the step has not run."""
        from mnemos.models.load import Checkpoint

        if not Path(self.path).is_dir():
            raise RunError(self.path, "has not been trained yet", "run the study again")
        return Checkpoint(self.path, self.trust_remote_code, self.allow_pickle, torch_dtype=self.torch_dtype).load()


class Step(Protocol):
    """One unit of work."""

    @property
    def key(self) -> str:
        """The name of its directory: a fingerprint of everything that can change its result."""
        ...

    @property
    def files(self) -> Mapping[str, str]:
        """The input files that the key was made of: path -> hash."""
        ...

    @property
    def title(self) -> str:
        """What progress shows."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of steps that must be finished before."""
        ...

    @property
    def every_process(self) -> bool:
        """True when all processes of a distributed launch work on it together."""
        ...

    def work(self, directory: Path, quiet: bool) -> Mapping[str, Any]:
        """Do it in `directory` and return what done.json keeps."""
        ...


class NamedStep:
    """A key, and the files that were hashed for it. Taken once, in the process that planned the run."""

    def _key(self) -> str:
        raise NotImplementedError

    @cached_property
    def _named(self) -> tuple[str, Mapping[str, str]]:
        with noted_files() as files:
            key = self._key()
        return key, files

    @property
    def key(self) -> str:
        """Its kind and the fingerprint of everything that can change its result."""
        return self._named[0]

    @property
    def files(self) -> Mapping[str, str]:
        """The input files among that: path -> hash."""
        return self._named[1]


@dataclass(frozen=True)
class WriteStep(NamedStep):
    """Let a model write the rows of one source; arms with an equal source share them. The processes of a launch share
    the questions."""

    written: GeneratedSource
    root: Path
    title: str
    every_process = True

    @property
    def needs(self) -> tuple[str, ...]:
        """The written sources inside this one, and the trainings whose models it asks."""
        # The source itself is among them, and no step waits for itself.
        inner = [write_key(one) for one in generated_in(self.written)]
        trained = [value.key for value in inside(self.written) if isinstance(value, StepModel)]
        return tuple(dict.fromkeys(key for key in (*trained, *inner) if key != self.key))

    def _key(self) -> str:
        return write_key(self.written)

    def work(self, directory: Path, quiet: bool) -> Mapping[str, Any]:
        """Write directory/rows.jsonl; continues from the journals in it after a kill."""
        from mnemos.study.synthesis import JournaledContext

        context = JournaledContext(directory, rows_of(self.root))
        rows = self.written.write(context)
        too_few(context.counts, len(rows), 1)
        if processes.is_main():
            keep(directory / "rows.jsonl", rows)
        return {
            "source": self.written.describe(),
            "rows": len(rows),
            "counts": dict(context.counts),
            "notes": context.notes,
            "seconds": context.journal.seconds,
            "tokens": context.journal.tokens,
        }


def write_key(written: GeneratedSource) -> str:
    """The key of the step that writes a source's rows."""
    return "write-" + fingerprint([written, surroundings()])


def rows_of(root: Path) -> Callable[[GeneratedSource], Source]:
    """What finds the rows that a finished WriteStep left under `root`."""
    return lambda written: Kept(root / "steps" / write_key(written) / "rows.jsonl", written.describe())


@dataclass(frozen=True)
class TrainStep(NamedStep):
    """Train one stage of one arm with one seed. root: the run, where written rows lie. moments: stretches
    at whose ends the model is kept too."""

    plan: Plan
    root: Path
    title: str
    needs: tuple[str, ...] = ()
    moments: int = 0
    every_process = True

    def _key(self) -> str:
        kept = [self.moments] if self.moments else []
        # Nothing is added without moments: the name of such a step does not change.
        return "train-" + fingerprint([self.plan, surroundings(), *kept])

    def work(self, directory: Path, quiet: bool) -> Mapping[str, Any]:
        """Train into directory/model, on the rows that were written for the plan; continues from
        directory/checkpoints after a kill."""
        from mnemos.train.likelihood import train
        from mnemos.train.trackers import FOLDER

        plan = materialize(self.plan, rows_of(self.root))
        title, tracking = self.title.removesuffix(": train"), self.root / FOLDER
        done = train(plan, directory, moments=self.moments, quiet=quiet, title=title, tracking=tracking)
        return dataclasses.asdict(done)


@dataclass(frozen=True)
class WeightsStep(NamedStep):
    """Arithmetic on the weights of a trained stage: costs no training of its own."""

    trained: StepModel
    before: ModelHandle
    after: tuple[Any, ...]
    title: str
    every_process = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The training."""
        return (self.trained.key,)

    def _key(self) -> str:
        return "weights-" + fingerprint([self.trained, self.before, self.after, surroundings()])

    def work(self, directory: Path, quiet: bool) -> Mapping[str, Any]:
        """Apply each expression in order into directory/model; the cost is the training's."""
        from mnemos.train.likelihood import apply_after
        from mnemos.weights.precision import written_dtype

        apply_after(self.after, Path(self.trained.path), self.before, directory / "model")
        found = {**result_of(self.trained.key, self.trained.root), "model": str(directory / "model")}
        # A training of an earlier version does not say it, and its report says nothing of either then.
        if "saved_dtype" in found:
            found["saved_dtype"] = written_dtype(directory / "model")
        return found


@dataclass(frozen=True)
class MeasureStep(NamedStep):
    """Ask one model every suite. before: None when the model is the one before. shown: whose answers a first look
    shows, and its seed; None shows none."""

    model: ModelHandle
    suites: tuple[Suite, ...]
    title: str
    needs: tuple[str, ...] = ()
    before: ModelHandle | None = None
    before_measured: StepModel | None = None
    shown: tuple[str, int] | None = None
    every_process = False

    def _key(self) -> str:
        # A suite keeps its fingerprint, and the files of a classifier or database would be noted once only.
        suites = [dataclasses.replace(suite).fingerprint for suite in self.suites]
        return "measure-" + fingerprint([self.model, suites, self.before, self.before_measured, surroundings()])

    def work(self, directory: Path, quiet: bool) -> Mapping[str, Any]:
        """Answers and scores into directory/answers/<suite>.jsonl."""
        from mnemos.measure.ask import load_measured, measure, save_measured
        from mnemos.models.forward import kept_batches
        from mnemos.study.sharing import ask_share, await_shares, journal_in
        from mnemos.study.synthesis import KeptBatches

        began = time.monotonic()
        doing("loading the model")
        model: Any = self.model.load()
        journal = journal_in(directory)
        asked = self._asked()
        if journal.count > 1:
            ask_share(lambda: model, asked, journal)
            await_shares(journal)
        earlier, before = None, None
        if self.before is not None and self.before_measured is not None:
            # A second model in memory only where something is asked of both.
            both = any(suite.ask in OF_BOTH for suite in self.suites)
            before = cast("LanguageModel", self.before.load() if both else Absent())
            earlier = load_measured(Path(self.before_measured.path).parent / "answers")
        kept = None if earlier is None else {name: measured.answers for name, measured in earlier.items()}
        with kept_batches(KeptBatches(journal)):
            found = measure(model, asked, before=before, before_answers=kept)
        known = {**(earlier or {}), **found}
        measured = {suite.name: known[suite.name] for suite in self.suites}
        save_measured(directory / "answers", measured)
        # Every answer stands there now.
        journal.remove()
        if earlier is not None:
            self._show(directory / first_look.FILE, earlier, measured)
        return {
            "suites": [suite.name for suite in self.suites],
            "as_before": [name for name in measured if name not in found],
            # A recogniser is put no chats.
            "renderer": model.renderer.template_fingerprint if hasattr(model, "renderer") else None,
            "seconds": time.monotonic() - began,
        }

    def help(self, directory: Path) -> None:
        """What the other processes of a launch do: ask the model their share of the suites."""
        from mnemos.study.sharing import ask_share, journal_in

        ask_share(self.model.load, self._asked(), journal_in(directory))

    def _asked(self) -> tuple[Suite, ...]:
        """The suites that are put to the model: all but those whose answers nothing can have changed."""
        from mnemos.study.unmoved import unmoved

        if self.before is None or self.before_measured is None:
            return self.suites
        known = unmoved(self.model, self.before, self.suites)
        return tuple(suite for suite in self.suites if suite not in known)

    def _show(self, path: Path, before: Mapping[str, Measured], after: Mapping[str, Measured]) -> None:
        if self.shown is None:
            return
        title, seed = self.shown
        entries = first_look.found(self.suites, before, after, seed=seed)
        if entries:
            write_text(path, first_look.document(title, entries))
            note(first_look.lines(title, entries, seed=seed, more=shown(path)))


BEGUN = "step.json"
"""What lies in a step's directory from its beginning on: its key, and how people call it."""

OF_BOTH = ("divergence", "text_divergence", "token_shift")
"""Ways of asking a suite that need the model before beside the other one."""


class Absent:
    """The model before, where nothing is asked of it."""


def execute(step: Step, root: Path, *, quiet: bool) -> None:
    """Run one step to its done.json. Under a distributed launch every process calls this.

    Raises RunError, and keeps nothing that could be taken for the step's result, when one of the files that the
    step's key was made of is changed meanwhile (see `core.inputs`); and when the run's directory is deleted or
    cannot be written.
    """
    from mnemos.train.quiet import quieted

    directory = root / "steps" / step.key
    with explained(root):
        if processes.is_main():
            write_json(directory / BEGUN, {"key": step.key, "title": step.title})
        processes.barrier()
        result: Mapping[str, Any] = {}
        with quieted(True):
            # Behind the barrier: nobody works in a directory that is not there yet.
            if step.every_process or processes.is_main():
                with watched(step.files, step.title) as watch:
                    result = step.work(directory, quiet)
                    watch.refuse_changed()
            else:
                if isinstance(step, MeasureStep):
                    with watched(step.files, step.title):
                        step.help(directory)
                processes.wait_for(directory / "done.json")
        if processes.is_main():
            # Whatever writes into the directory also makes it, so a deleted one may be there again.
            if not (directory / BEGUN).is_file():
                raise deleted(root)
            write_json(directory / "done.json", {"key": step.key, "title": step.title, "result": dict(result)})
        processes.barrier()
    release()


def release() -> None:
    """Give memory of what is over back to the system, so that the next step is not measured with it."""
    gc.collect()
    from mnemos.train.memory import trim

    trim()


@contextlib.contextmanager
def explained(root: Path) -> Iterator[None]:
    """Say it in words when the run's directory is deleted or may not be written while somebody works in it."""
    try:
        yield
    except MnemosError:
        raise
    except Exception as error:
        if processes.is_main() and not root.is_dir():
            raise deleted(root) from error
        if isinstance(error, FileNotFoundError) and not any(root.glob("steps/*/" + BEGUN)):
            raise deleted(root) from error
        if isinstance(error, PermissionError) or "Permission denied" in str(error):
            place = getattr(error, "filename", None) or root
            raise RunError(
                f"{place}",
                "may not be read or written (permission denied)",
                f"mend its permissions, or those of {root}",
            ) from error
        raise


def deleted(root: Path) -> RunError:
    """The error for a run's directory that is not there any more."""
    return RunError(f"{root}", "was deleted while the run worked in it", "run the same command again; it starts anew")


def is_done(step_key: str, root: Path) -> bool:
    """Whether the step's result is there."""
    return os.path.exists(os.path.join(root, "steps", step_key, "done.json"))


def result_of(step_key: str, root: Path) -> dict[str, Any]:
    """What a finished step left in done.json."""
    result: dict[str, Any] = read_json(root / "steps" / step_key / "done.json")["result"]
    return result


def as_before(step_key: str, root: Path) -> list[str]:
    """The suites that a finished measurement did not ask again, because nothing that answers them was trained. One by
    an earlier version asked every suite."""
    return list(result_of(step_key, root).get("as_before") or ())


def distinct(steps: Sequence[Step]) -> list[Step]:
    """Each key once, in the order of first appearance: equal plans share their work."""
    return list({step.key: step for step in steps}.values())
