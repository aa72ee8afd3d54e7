"""Before the first step: everything that configuration and headers say already, once for all arms and suites.

A misspelt optimiser or a model without a chat template would otherwise be met when the model before has been
measured, minutes or hours later. No weights are loaded: models are made of configurations and headers, so that
an arm's choice of what may move is tried on the real names and shapes.

To add a check, write a function of an `Experiment` (or of a `Plan`, or of a suite) that raises a MnemosError, and
call it below. Checks of one plan go to `train.preflight`, those of a checkpoint to `models`.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mnemos.core.errors import ModelError, RunError, UsageError, nearest
from mnemos.core.fingerprint import fingerprint
from mnemos.core.plan import Plan
from mnemos.models.recognisers.classes import hears
from mnemos.sources.generated import generated_in, inside
from mnemos.sources.looks import first_rows
from mnemos.sources.read import FileSource
from mnemos.sources.render import RAW_ROLES
from mnemos.study.experiment import Experiment, source_of
from mnemos.study.room import room as check_room
from mnemos.study.steps import is_done
from mnemos.study.timing import times
from mnemos.weights.speech import speech_folder

if TYPE_CHECKING:
    from mnemos.measure.suite import Suite

FIRST_ROWS = 100
"""Rows of each task that are rendered before the first step."""

REACH = 5.0
"""Seconds that a server has to accept a connection."""


def preflight(experiment: Experiment, *, dry: bool = False, probe: bool = False) -> list[str]:
    """Raise what can be known before the first step; nothing is checked where every step is done. Returns lines about
    what is no error, but should be known: items that will be missing; memory, disk and time. dry: a server that does
    not answer is no error yet either. probe: with `dry`, train a few steps of every arm to say how long it takes."""
    todo = [step for step in experiment.steps if not is_done(step.key, experiment.root)]
    if not todo:
        return []
    from mnemos.train.quiet import quieted

    plans = [stage.plan for run in experiment.runs for stage in run.stages]
    with quieted(True):
        check_suites(experiment.suites, renderer := _renderer(experiment))
        _check_rows(experiment, renderer)
        _check_plans(plans)
    lines = _check_servers(plans, dry)
    _check_sandbox(plans)
    with quieted(True):
        room = check_room(experiment, renderer, dry=dry)
        if dry:
            room += times(experiment, renderer, probe=probe)
    return [*try_items(experiment.suites), *_rates(experiment), *lines, *room]


def try_items(suites: Iterable[Suite]) -> list[str]:
    """Try what can be tried of items without a model: lines about those that will be missing. UsageError where they
    have to be run and this machine gives no sandbox."""
    from mnemos.measure.kinds import KINDS

    return [f"suite   {one.name}: {line}" for one in suites for line in KINDS[one.kind].tried(one.settings, one.items)]


def check_suites(suites: Iterable[Suite], renderer: Any) -> None:
    """What suites need of the model before, and of this installation. renderer: the model's; None where it cannot
    be had without downloading the model."""
    from mnemos.measure.harness import tasks_of

    for suite in suites:
        if suite.kind == "classifier":
            _check_classifier(suite)
        if suite.ask == "harness":
            tasks_of(suite)
        chat = suite.uses_chat or (suite.ask == "harness" and getattr(suite.settings, "chat", False))
        if chat and renderer is not None:
            _need_template(renderer, f"suite {suite.name!r}")


def check_model(handle: Any, renderer: Any) -> None:
    """What headers, configuration and vocabulary of a checkpoint say against it. renderer: its own."""
    from mnemos.models.load import check_vocabulary, load_model

    consent = {"trust_remote_code": handle.trust_remote_code, "allow_pickle": handle.allow_pickle}
    model = load_model(handle.path, headers_only=True, hears=hears(handle.path), **consent)
    if not hears(handle.path):
        check_vocabulary(model, renderer.tokenizer, handle.path)


def _need_template(renderer: Any, who: str) -> None:
    try:
        renderer.template  # noqa: B018 - raises where there is none
    except ModelError as error:
        raise ModelError(f"{who}: {error.value}", error.bound, error.cure) from None


def _check_classifier(suite: Suite) -> None:
    from mnemos.core.files import read_json

    settings: Any = suite.settings
    file = Path(settings.model) / "config.json"
    if not Path(settings.model).is_dir():
        return  # a hub id, which was asked for its commit already
    if not file.is_file():
        raise UsageError(
            f"suite {suite.name!r}: model {settings.model}", "holds no config.json", "name a text-classification model"
        )
    try:
        names = {str(name) for name in read_json(file).get("id2label", {}).values()}
    except (ValueError, AttributeError):
        raise ModelError(f"{file}", "is not a JSON object", "copy this file again") from None
    if names and settings.label not in names:
        raise UsageError(
            f"suite {suite.name!r}: label {settings.label!r}",
            f"is no class of {settings.model}",
            nearest(settings.label, names),
        )


def _renderer(experiment: Experiment) -> Any:
    """The renderer of the model before; None for a hub id, whose files may not be here yet, and for a recogniser."""
    from mnemos.models.renderer import renderer_of

    before = experiment.before
    if not Path(before.path).exists() or hears(before.path):
        return None
    return renderer_of(before)


def _check_rows(experiment: Experiment, renderer: Any) -> None:
    """Whether the first rows of each task, and of all that a stage mixes in, can be read and rendered: the others are
    met where they are read. Answers that the chat template rewrites are an error only where a training that learns
    them refuses them."""
    from mnemos.sources.rewritten import as_learned
    from mnemos.train import draws

    study = experiment.study
    tasks = [*study.tasks, *(study.task_of(arm, task) for arm in study.arm_data for task in study.tasks)]
    sources = {fingerprint(source): source for source in map(source_of, tasks)}
    refused = set()
    for plan in (stage.plan for run in experiment.runs for stage in run.stages):
        # What lies inside rows that a model writes is its material, and seldom what is learned.
        found = [one for one in inside(plan.examples) if isinstance(one, FileSource)]
        found = [] if generated_in(plan.examples) else found
        sources |= {fingerprint(one): one for one in found}
        if draws.known(plan.draw).in_data and plan.train.rewritten_turns == "refuse":
            refused |= {fingerprint(one) for one in found}
    for name, source in sources.items():
        for example in first_rows(source, FIRST_ROWS):
            if renderer is None or all(turn.role in RAW_ROLES for turn in example.turns):
                break
            _need_template(renderer, f"rows of {source.describe()}")
            if name in refused and example.label is not False:
                as_learned(renderer, example, "refuse", Counter())
            else:
                renderer.rewritten(example)


def _check_plans(plans: Iterable[Plan]) -> None:
    """Settings of training, and what may move, once for each that differs."""
    from mnemos.train.preflight import check_trainable, check_training

    settings, trainables = set(), set()
    for plan in plans:
        name = fingerprint([plan.train, plan.trainable.learning_rate])
        if name not in settings:
            settings.add(name)
            check_training(plan)
        # Later stages begin with the same architecture; a model that is still to be trained has no files yet.
        if not Path(plan.before.path).exists():
            continue
        name = fingerprint([plan.before, plan.trainable])
        if name not in trainables:
            trainables.add(name)
            check_trainable(plan)


def _rates(experiment: Experiment) -> list[str]:
    """A line for each arm whose learning rate is unusual for the model's size."""
    from mnemos.models.load import parameters_of
    from mnemos.train.rates import unusual

    if not Path(experiment.before.path).is_dir():
        return []  # a hub id, whose headers may not be here
    if speech_folder(experiment.before.path) is not None:
        return []  # what moves is a bridge that knows nothing yet, and no table is about these
    parameters = parameters_of(experiment.before)
    # One line an arm: seeds and stages train at one rate.
    plans = {run.arm: run.stages[0].plan for run in reversed(experiment.runs)}
    found = {arm: unusual(plan, parameters) for arm, plan in reversed(plans.items())}
    return [f"note    arm {arm}: {text}" for arm, text in found.items() if text is not None]


def _check_sandbox(plans: Iterable[Plan]) -> None:
    """Whether rewards that run what a model writes can be given here; UsageError otherwise."""
    from mnemos.rewards import checks
    from mnemos.rewards.verified import Verified

    if any(isinstance(one, Verified) and one.verifier in checks.CHECKS for plan in plans for one in inside(plan)):
        checks.trials("code", ["pass"])


def _check_servers(plans: Iterable[Plan], dry: bool) -> list[str]:
    """Whether the servers that are asked for rows, rewards and judgements accept a connection."""
    from mnemos.models.server import Server

    servers = {one.path: one for plan in plans for one in inside(plan) if isinstance(one, Server)}
    lines = []
    for one in servers.values():
        troubles = {url: trouble for url in one.urls if (trouble := _unreachable(url))}
        if len(troubles) == len(one.urls) and not dry:
            trouble = next(iter(troubles.values()))
            raise RunError(f"{one.path}", f"cannot be reached ({trouble})", "start the server, or mend its address")
        lines += [f"server  {url}#{one.model}: cannot be reached now ({why})" for url, why in troubles.items()]
    return lines


def _unreachable(url: str) -> str | None:
    """Why no connection can be made; None where one can, or where a proxy stands between."""
    if any(os.environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return None
    parts = urlsplit(url)
    # A connection is opened and closed: no request that a server might count or refuse.
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), timeout=REACH).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return None
