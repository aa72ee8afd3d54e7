"""Compare two models that were trained anywhere: the same ledger without switching trainer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.places import resolved
from mnemos.sources.chat_settings import ChatSettings
from mnemos.study.run import Record

AFTER = "after"
"""The name of the one arm of a comparison."""


def compare(
    before: str | Path,
    after: str | Path,
    suites: str | Path | Sequence[Any],
    *,
    new: Sequence[str] = (),
    health: bool = True,
    out: str | Path | None = None,
    allow_template_change: bool = False,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    chat: ChatSettings | None = None,
    quiet: bool = True,
) -> Record:
    """Measure two models on the same suites and return the record of their paired differences.

    before, after: Hugging Face directories or hub ids, adapters included. suites: a YAML file, a built-in name, or a
    list of specs. new: names of suites that measure what was taught (the others must not lose). health: False
    leaves out how the answers of those suites stop, repeat and diverge; it changes no other verdict. Verdicts are
    about these two checkpoints, not about a way of training. out: keep results.json, answers and report there.
    chat: what both models' chat templates are given, as a study gives it (a model that such a study trained has it
    already). quiet: no progress. Raises NotComparable naming every difference of the two manifests: a changed chat
    template or tokenizer is refused unless allowed by name, because then a difference is not the model's alone. The
    same model on both sides gives exactly 0.
    """
    from mnemos.measure.manifest import refuse_differences
    from mnemos.measure.suite import load_suites
    from mnemos.models.load import Checkpoint
    from mnemos.study.experiment import health_suites
    from mnemos.study.paths import model_location
    from mnemos.study.preflight import check_model, check_suites, try_items
    from mnemos.train.quiet import quieted

    here = Path.cwd()
    specs = [suites] if isinstance(suites, str | Path) else list(suites)
    loaded = list(load_suites([str(s) if isinstance(s, Path) else s for s in specs], here))
    unknown = sorted(set(new) - {suite.name for suite in loaded})
    if unknown:
        raise UsageError(
            f"--new {unknown[0]}", "is not among the suites", "known: " + ", ".join(s.name for s in loaded)
        )
    roles = {suite.name: "new" if suite.name in new else "old" for suite in loaded}
    added = [spec for spec in health_suites(loaded) if spec["name"] not in roles] if health else []
    extra = load_suites(added, here, known=loaded)
    roles.update({suite.name: "health" for suite in extra})
    everything = (*loaded, *extra)

    places = [model_location(str(place), here) for place in (before, after)]
    handles = [Checkpoint(place, trust_remote_code, allow_pickle, chat) for place in places]
    with quieted(True):
        renderers = [_renderer(handle) for handle in handles]
        for handle, renderer in zip(handles, renderers, strict=True):
            check_model(handle, renderer)
    check_suites(everything, renderers[0])
    frozen = [_frozen(*side, everything, roles) for side in zip(handles, renderers, strict=True)]
    refuse_differences(*frozen, allow=("template_fingerprint", "first_tokens") if allow_template_change else ())
    for line in try_items(everything):
        if not quiet:
            print(line, file=sys.stderr)
    base, later = _measured(handles, everything, quiet)
    results = _results(everything, roles, handles, (base, later), frozen[0])
    return _save(results, (base, later), out)


def _renderer(handle: Any) -> Any:
    """The model's; None for a recogniser, which is put no texts."""
    from mnemos.models.recognisers.classes import hears
    from mnemos.models.renderer import renderer_of

    return None if hears(handle.path) else renderer_of(handle)


def _measured(handles: Sequence[Any], suites: tuple[Any, ...], quiet: bool) -> list[dict[str, Any]]:
    """What both sides said, from the cache where it is there; asked for otherwise, and then kept there."""
    from mnemos.measure.ask import load_measured
    from mnemos.study.cache import measured_folder
    from mnemos.study.engines.local import LocalEngine
    from mnemos.study.lock import locked
    from mnemos.study.steps import MeasureStep, StepModel
    from mnemos.study.stopping import terminable

    root = measured_folder()
    first = MeasureStep(handles[0], suites, "before: measure")
    second = MeasureStep(
        handles[1],
        suites,
        "after: measure",
        needs=(first.key,),
        before=handles[0],
        before_measured=StepModel(root, first.key),
    )
    for step in (first, second):
        # A lock a step, not one for all: comparisons of other models go on meanwhile.
        with terminable(), locked(root / "steps" / step.key, patient=True):
            LocalEngine(quiet).run([step], root)
    return [load_measured(root / "steps" / step.key / "answers") for step in (first, second)]


def _frozen(handle: Any, renderer: Any, suites: Sequence[Any], roles: Mapping[str, str]) -> dict[str, Any]:
    """One side's manifest; its first tokens are those of the first prompt or text of the suites."""
    from mnemos.core.nouns import Prompt, Turn
    from mnemos.measure.manifest import manifest
    from mnemos.measure.tool_calls import offered

    first = next((item for suite in suites for item in suite.items), None)
    prompt = None
    if first is not None:
        # As it is asked: with its tools in words, where the template takes none.
        prompt = Prompt((Turn("text", first.text or ""),)) if first.prompt is None else offered(renderer, first)
    return manifest(
        model=handle,
        suites=suites,
        roles=roles,
        seeds=[0],
        template_fingerprint=renderer.template_fingerprint if renderer else None,
        first_tokens=renderer.prompt_ids(prompt) if prompt and renderer else (),
    )


def _results(
    suites: Sequence[Any],
    roles: Mapping[str, str],
    handles: Sequence[Any],
    sides: Sequence[Any],
    frozen: dict[str, Any],
) -> dict[str, Any]:
    from mnemos.measure.compare import comparisons, summary
    from mnemos.measure.flips import flips
    from mnemos.measure.listening import listening
    from mnemos.study.results.assemble import FORMAT

    base, later = ({name: scored.scores for name, scored in side.items()} for side in sides)
    same = handles[0].fingerprint == handles[1].fingerprint
    compared = comparisons(suites, base, {0: later}, arm=AFTER, roles=roles, same_model=same)
    frozen["after"] = {"path": str(handles[1].path), "fingerprint": handles[1].fingerprint}
    run = {
        "seed": 0,
        "fingerprint": handles[1].fingerprint,
        "model": str(handles[1].path),
        "scores": {suite.name: summary(later[suite.name], suite) for suite in suites},
        "cost": None,
        "losses": [],
        "counts": {},
    }
    return {
        "format": FORMAT,
        "study": f"{Path(handles[0].path).name} → {Path(handles[1].path).name}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": "compare",
        "manifest": frozen,
        "before": {suite.name: summary(base[suite.name], suite) for suite in suites},
        "arms": [{"arm": AFTER, "history": [], "runs": [run]}],
        "comparisons": [comparison.as_dict() for comparison in compared],
        "matrix": None,
        **listening(suites, {"before": [sides[0]], AFTER: [sides[1]]}),
        "flips": flips(suites, sides[0], sides[1], arm=AFTER, seed=0),
    }


def _save(results: dict[str, Any], sides: Sequence[Any], out: str | Path | None) -> Record:
    from mnemos.core.files import write_json, write_text
    from mnemos.measure.ask import save_measured

    if out is None:
        return Record(results)
    root = resolved(Path(out))
    root.mkdir(parents=True, exist_ok=True)
    for label, side in zip(("before", "after"), sides, strict=True):
        save_measured(root / label / "answers", side)
    record = Record(results, root)
    write_json(root / "results.json", results)
    write_text(root / "report.html", record.report("html"))
    return record
