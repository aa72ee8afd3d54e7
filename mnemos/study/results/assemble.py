"""results.json: assembled from finished steps; the only thing that a report reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnemos.measure.ask import Measured, load_measured
from mnemos.measure.compare import Comparison, comparisons, summary, unmoved_in
from mnemos.measure.copied import Taught, copied
from mnemos.measure.flips import flips
from mnemos.measure.manifest import manifest
from mnemos.study.experiment import JOINT, ArmRun, Experiment, Stage, source_of
from mnemos.study.paths import shown_path
from mnemos.study.results.beside import beside_of
from mnemos.study.results.listening import listening_of
from mnemos.study.results.recognition import recognition_of
from mnemos.study.results.sequence import of_accuracies, score_matrices, score_matrix
from mnemos.study.results.standing import Scores, replicates, standing, unit_of
from mnemos.study.results.token_shift import token_shift_of
from mnemos.study.results.trajectory import measuring, trajectory_of, trajectory_of_run
from mnemos.study.steps import MeasureStep, as_before, result_of
from mnemos.study.vocabulary import extension_of
from mnemos.train.used import used

FORMAT = 1


def assemble(experiment: Experiment) -> dict[str, Any]:
    """The whole record of a finished study. Deterministic but for `created` and the cost's
    seconds and memory."""
    before = measured(experiment.before_step, experiment.root)
    arms: dict[str, list[ArmRun]] = {}
    for run in experiment.runs:
        arms.setdefault(run.arm, []).append(run)
    compared: list[Comparison] = []
    changed: list[dict[str, Any]] = []
    repeated: list[dict[str, Any]] = []
    for arm, runs in arms.items():
        after = [(run, measured(run.last.measure, experiment.root)) for run in runs]
        unmoved = unmoved_in(as_before(run.last.measure.key, experiment.root) for run in runs)
        compared += compare_arm(experiment, arm, before, replicates(experiment, after), unmoved)
        changed += arm_flips(experiment, arm, before, after[0])
        repeated += _copied(experiment, arm, before, [scored for _, scored in after])
    return {
        "format": FORMAT,
        "study": experiment.study.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": "study",
        "manifest": _manifest(experiment),
        "before": {suite.name: summary(before[suite.name].scores, suite) for suite in experiment.suites},
        "arms": [
            {
                "arm": arm,
                "history": _history(experiment, runs[0]),
                "train": _train(experiment, runs),
                **_vocabulary(experiment, runs[0]),
                "runs": [_run(experiment, run) for run in runs],
            }
            for arm, runs in arms.items()
        ],
        "comparisons": [comparison.as_dict() for comparison in compared],
        **_matrix(experiment, before, arms),
        **standing(experiment),
        **trajectory_of(experiment),
        **token_shift_of(experiment),
        **recognition_of(experiment),
        **listening_of(experiment),
        **beside_of(experiment),
        **({"copied": repeated} if repeated else {}),
        "flips": changed,
    }


def measured(step: MeasureStep, root: Path) -> dict[str, Measured]:
    """The answers and scores of a finished measurement."""
    return load_measured(root / "steps" / step.key / "answers")


def compare_arm(
    experiment: Experiment,
    arm: str,
    before: Mapping[str, Measured],
    after: Mapping[int, Scores],
    unmoved: Collection[str],
) -> list[Comparison]:
    """Every suite of one arm against the model before, paired by item, over all replicates. See `comparisons`."""
    return comparisons(
        experiment.suites,
        {name: scored.scores for name, scored in before.items()},
        after,
        arm=arm,
        roles=experiment.roles,
        unmoved=unmoved,
    )


def arm_flips(
    experiment: Experiment, arm: str, before: Mapping[str, Measured], first: tuple[ArmRun, Mapping[str, Measured]]
) -> list[dict[str, Any]]:
    """Answers side by side, chosen by rule, from the arm's first run."""
    return flips(experiment.suites, before, first[1], arm=arm, seed=first[0].seed)


def _copied(
    experiment: Experiment, arm: str, before: Mapping[str, Measured], runs: Sequence[Mapping[str, Measured]]
) -> list[dict[str, Any]]:
    """Old suites that the arm answers with what it was taught."""
    tasks = [experiment.study.task_of(arm, task) for task in experiment.study.tasks]
    # What a method mixes in is no part of it: refusals that were replayed are refusals also where they are repeated.
    taught = Taught(row for task in tasks for row in source_of(task))
    return [{"arm": arm, **one} for one in copied(experiment.suites, experiment.roles, before, runs, taught)]


def _manifest(experiment: Experiment) -> dict[str, Any]:
    study, root = experiment.study, experiment.root
    frozen = manifest(
        model=experiment.before,
        suites=experiment.suites,
        roles=experiment.roles,
        seeds=study.seeds,
        template_fingerprint=result_of(experiment.before_step.key, root)["renderer"],
        first_tokens=_first_tokens(experiment),
    )
    frozen["teach"] = [source_of(task).describe() for task in study.tasks]
    return frozen


def _first_tokens(experiment: Experiment) -> list[int]:
    for run in experiment.runs:
        first = result_of(run.stages[0].steps[0].key, experiment.root).get("first_tokens")
        if first:
            return list(first)
    return []


def _train(experiment: Experiment, runs: Sequence[ArmRun]) -> dict[str, Any]:
    """The training settings in force (see `train.used`), but for the seed of the order of rows where each run has
    its own; with them what the models are saved in, and the most that rounding took of one (see `train.rounding`)."""
    plan = runs[0].last.plan
    values = {name: item for name, item in used(plan).items() if name != "data_seed"}
    values |= {} if plan.train.data_seed is None else {"data_seed": plan.train.data_seed}
    results = [_trained(experiment, stage) for run in runs for stage in run.stages]
    # Steps of an earlier version do not say in what they were computed.
    if all("saved_dtype" in result for result in results):
        values |= {"bf16": results[0]["dtype"] == "bfloat16", "saved_dtype": results[0]["saved_dtype"]}
        lost = [result["rounding"] for result in results if result["rounding"]]
        values |= {"rounding": max(lost)} if lost else {}
    return values


def _vocabulary(experiment: Experiment, run: ArmRun) -> dict[str, Any]:
    """The new pieces of an arm's models, of its first run: an entry for each time that it was given some."""
    found = extension_of(tuple(step for stage in run.stages for step in stage.extends), experiment.root)
    return {"vocabulary": found} if found else {}


def _history(experiment: Experiment, run: ArmRun) -> list[dict[str, Any]]:
    def shown(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: shown(part) for key, part in item.items()}
        if isinstance(item, list | tuple):
            return [shown(part) for part in item]
        return shown_path(item, experiment.folder) if isinstance(item, str) else item

    return [
        {
            "method": line.method,
            "paper": line.paper,
            "settings": {key: shown(item) for key, item in line.settings.items()},
            "off": line.off,
        }
        for line in run.last.plan.history
    ]


def _run(experiment: Experiment, run: ArmRun) -> dict[str, Any]:
    results = [_trained(experiment, stage) for stage in run.stages]
    scored = measured(run.last.measure, experiment.root)
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result["counts"])
    written = [result_of(step.key, experiment.root) for stage in run.stages for step in stage.writes]
    several = len(experiment.study.task_orders) > 1 and run.arm != JOINT
    unmoved = as_before(run.last.measure.key, experiment.root)
    return {
        "seed": run.seed,
        **({"order": [stage.task for stage in run.stages]} if several else {}),
        "fingerprint": run.last.plan.fingerprint,
        "model": str(Path(run.last.model.path).relative_to(experiment.root)),
        "scores": {suite.name: summary(scored[suite.name].scores, suite) for suite in experiment.suites},
        **({"as_before": unmoved} if unmoved else {}),
        "cost": {
            **{
                key: sum(result[key] for result in results)
                for key in ("seconds", "tokens", "supervised_tokens", "steps")
            },
            **{
                key: max(result[key] for result in results)
                # Stages follow one another, so their memory does not add up.
                for key in ("peak_memory_bytes", "trainable_parameters", "total_parameters")
            },
            **_phases(results),
            **(_writing(results, written) if written else {}),
            **measuring(experiment, run),
        },
        "losses": [point for result in results for point in result["losses"]],
        **({"noted": noted} if (noted := _noted(results)) else {}),
        **trajectory_of_run(experiment, run),
        "counts": dict(counts),
        **({"written": written} if written else {}),
    }


def _phases(trained: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The highest memory of each phase of training over the stages; nothing for stages that were trained before
    it was kept."""
    highest: dict[str, int] = {}
    for result in trained:
        for name, size in result.get("peak_memory_phases", {}).items():
            key = f"peak_memory_{name}_bytes"
            highest[key] = max(highest.get(key, 0), size)
    return highest


def _noted(results: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What the stages noted beside their losses, one after another, by name."""
    names = dict.fromkeys(name for result in results for name in result.get("noted", {}))
    return {name: [point for result in results for point in result.get("noted", {}).get(name, [])] for name in names}


def _writing(trained: Sequence[Mapping[str, Any]], written: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The whole time, and how much of it a model spent on writing rows. Rows that several arms
    share count in full for each."""
    writing = sum(result["seconds"] for result in written)
    return {
        "seconds": sum(result["seconds"] for result in trained) + writing,
        "writing_seconds": writing,
        "written_rows": sum(result["rows"] for result in written),
        "written_tokens": sum(result["tokens"] for result in written),
    }


def _trained(experiment: Experiment, stage: Stage) -> dict[str, Any]:
    return result_of(stage.steps[-1].key, experiment.root)


def _matrix(
    experiment: Experiment, before: Mapping[str, Measured], arms: Mapping[str, Sequence[ArmRun]]
) -> dict[str, Any]:
    """For a sequence the `matrix`, scores after each stage and what they say, or else `no_matrix`, why not."""
    suites, missing = of_accuracies(experiment.task_suites, experiment.suites)
    if missing or not experiment.study.is_sequence:
        return {"matrix": None, **({"no_matrix": missing} if experiment.study.is_sequence else {})}
    orders = [[str(task.name) for task in order] for order in experiment.study.task_orders]
    by_stage: dict[str, list[dict[int, list[Mapping[str, Measured]]]]] = {}
    for arm, runs in arms.items():
        # [order][seed][stage]; the joint arm has the first order only.
        by_stage[arm] = [{} for _ in range(1 + max(run.order for run in runs))]
        for run in runs:
            stages: list[Mapping[str, Measured]] = [measured(stage.measure, experiment.root) for stage in run.stages]
            by_stage[arm][run.order][run.seed] = stages
    if len(orders) == 1:
        return {"matrix": score_matrix(suites, before, {arm: by_order[0] for arm, by_order in by_stage.items()})}
    return {"matrix": score_matrices(orders, suites, before, by_stage, unit_of(experiment))}
