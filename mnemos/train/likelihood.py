"""Training one stage: continual pre-training on text, supervised fine-tuning, preferences, and answers
that the model draws itself.

    train(plan, out)  ->  out/model        a complete Hugging Face directory, in the dtype of the model before; or,
                                           where only adapters were trained, the adapter's directory
                          out/adapter      the adapter, where out/model is made of it: by keep_merged or arithmetic
                          out/checkpoints  while it runs, unless save_steps is 0
                          out/moments/<k>/model  as it was on the way, when moments > 0

The same plan gives the same weights bit for bit on the same machine and number of processes (on
a GPU as far as its kernels are deterministic; the fast ones add up in no fixed order), and up to rounding
on any number of processes, which share the rows of each step. Killed at any moment, the same call continues
from the last complete checkpoint and gives what an unbroken run gives; also on another number of processes.
Under torchrun or accelerate launch every process makes the same call.
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import UsageError
from mnemos.core.plan import Plan
from mnemos.core.progress import counting, doing, note
from mnemos.models.batch_norm import hold_statistics
from mnemos.models.precision import HALF, computed_folder
from mnemos.train import draws
from mnemos.train.memory import Peak, trim
from mnemos.train.preflight import in_4bit, nothing_moves
from mnemos.train.quiet import quieted
from mnemos.train.rows import Prepared
from mnemos.train.save import apply_after as apply_after
from mnemos.train.save import (
    consent,
    finish,
    folder_of,
    full_disk,
    load_before,
    merge_adapter,
    record_base,
    rounding,
    sound_generation,
    whole,
)
from mnemos.train.trackers import FOLDER, tracked
from mnemos.weights.adapter import quiet_peft
from mnemos.weights.files import ADAPTER_CONFIG
from mnemos.weights.precision import SINGLE, stored_precision, written_dtype

if TYPE_CHECKING:
    from mnemos.train.evaluation import Evaluate
    from mnemos.train.moments import Keep
    from mnemos.train.rounding import Rounding
    from mnemos.train.trainer import PlanTrainer


@dataclass(frozen=True)
class TrainResult:
    """What one stage cost and left behind.

    model: the directory out/model. seconds: wall-clock of this call. tokens, supervised_tokens:
    read over all steps and processes, without padding. peak_memory_bytes: of the GPU, else of
    this process; the largest over processes and phases. peak_memory_phases: the same for each phase: prepare
    (rows), load (the model), train, save. losses: [step, mean loss
    in nats per unit of weight since the entry before]. counts: see `rows.Prepared`. first_tokens: ids of the
    first example. noted: name -> [step, mean since the entry before] of what terms note beside the loss, and of what
    drawn answers showed (`scored.Ledger.add`). moments: [step, name -> mean since the entry before] at the
    end of each stretch of a training that is kept at moments, its end included. dtype: what the model computed in.
    saved_dtype: what most numbers of out/model are saved in (the adapter's own, where one is kept as it is; known to
    the process that saves). rounding: what that took of what training changed (see
    `train.rounding`); None where it is not known, or an adapter is kept as it is.
    """

    model: str
    seconds: float
    steps: int
    tokens: int
    supervised_tokens: int
    peak_memory_bytes: int
    trainable_parameters: int
    total_parameters: int
    losses: list[list[float]]
    counts: dict[str, int]
    first_tokens: list[int]
    noted: dict[str, list[list[float]]] = field(default_factory=dict)
    moments: list[list[Any]] = field(default_factory=list)
    peak_memory_phases: dict[str, int] = field(default_factory=dict)
    dtype: str = SINGLE
    saved_dtype: str = SINGLE
    rounding: float | None = None


def train(
    plan: Plan,
    out: Path,
    *,
    moments: int = 0,
    quiet: bool = False,
    callbacks: Sequence[Any] = (),
    title: str = "train",
    tracking: Path | None = None,
) -> TrainResult:
    """Train one stage and write its model under `out`.

    moments: equal stretches at whose ends the model is kept too (see `train.moments`); 0 keeps the end alone.
    quiet: no messages. callbacks: transformers.TrainerCallback objects that look on. title: what trackers call it.
    tracking: where they write, out/tracking unless given.
    Raises DataError when nothing can be learned from the examples, ModelError when the model
    cannot be loaded or its loss stops being finite, UsageError for settings that transformers
    refuses and for moments beside load_best_model_at_end, RunError when the disk is full. Ctrl-C
    leaves the last checkpoint complete.
    """
    from mnemos.models.renderer import renderer_of
    from mnemos.sources.read import skipped
    from mnemos.train.stage import TrainedStage
    from mnemos.weights.checkpoint import tokenizer_of

    _refuse_moments(plan, moments)
    draw = draws.find(plan.draw)
    out = Path(out)
    started, peak = time.monotonic(), Peak("prepare")
    # Rows first: data that nothing can be learned from is refused before a model is loaded.
    with quieted(True), full_disk(out), ExitStack() as stack:
        doing("reading the rows")
        tokenizer = tokenizer_of(plan.before)
        own = getattr(draw, "renderer", None)
        renderer = own(plan, tokenizer) if own else renderer_of(plan.before, tokenizer)
        prepared: Prepared = draw.prepare(plan, renderer)
        prepared.counts.update(skipped(plan.examples))
        peak.phase("load")
        doing("loading the model")
        stack.enter_context(tracked(plan.train.report_to, tracking or out / FOLDER, title))
        trainer = _trainer(plan, prepared, draw.Batches, tokenizer, out, title)
        trainer.stage = TrainedStage(trainer, renderer, prepared.counts, prepared.longest)
        for callback in (*callbacks, *_own_callbacks(trainer, plan, out)):
            trainer.add_callback(callback)
        keep = _keep(trainer, out, moments)
        evaluate = _evaluate(trainer, prepared, out)
        peak.phase("train")
        _run(trainer, plan, prepared, out, quiet)
        peak.phase("save")
        if evaluate is not None:
            evaluate.restore()
        doing("saving the model")
        _save(trainer, plan, prepared, tokenizer, out, keep)
        if evaluate is not None and trainer.args.should_save:
            evaluate.tidy()
    if trainer.saved is not None and trainer.saved.words() and not quiet:
        note(trainer.saved.words())
    result = _result(trainer, prepared, out, time.monotonic() - started, peak, moments)
    trainer.accelerator.free_memory()
    del trainer, keep, evaluate
    # Model, optimiser and trainer refer to each other; a study trains the next arm in the same process.
    gc.collect()
    return result


def _refuse_moments(plan: Plan, moments: int) -> None:
    """UsageError for moments of a training whose end is not known before it: those behind an early stop never come."""
    if moments and plan.train.load_best_model_at_end:
        stops = plan.train.early_stopping_patience is not None
        raise UsageError(
            f"moments = {moments} and train.{'early_stopping_patience' if stops else 'load_best_model_at_end'}",
            "are both set, and the last stretch would not end with the trained model",
            "leave one of them out",
        )


def _own_callbacks(trainer: PlanTrainer, plan: Plan, out: Path) -> list[Any]:
    from mnemos.train.saving import SaveByTime

    return [SaveByTime(trainer, out)] if plan.train.save_steps is None else []


def _trainer(plan: Plan, prepared: Prepared, batches: Any, tokenizer: Any, out: Path, title: str) -> PlanTrainer:
    from transformers import set_seed

    from mnemos.models.load import check_vocabulary
    from mnemos.train.arguments import computes_in, own_fsdp, refused_settings, training_arguments
    from mnemos.train.resharding import cut_up_without_gpus
    from mnemos.train.trainer import PlanTrainer

    arguments = training_arguments(plan, out / "checkpoints", title)
    computes = computes_in(plan)
    model = load_before(plan.before, held_in(plan, computes), load_in_4bit=in_4bit(plan))
    if not draws.known(plan.draw).hears:
        check_vocabulary(model, tokenizer, plan.before.path)
    # Adapters draw their initial values here.
    set_seed(plan.seed)
    model = masters(plan.trainable.prepare(model))
    hold_statistics(model)
    # A stage may start from an adapter directory, merged; its own base is not this adapter's.
    for config in getattr(model, "peft_config", {}).values():
        config.base_model_name_or_path = plan.before.path
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise nothing_moves(model, plan)
    sound_generation(model)
    cut_up_without_gpus(bool(arguments.fsdp))
    with refused_settings(), own_fsdp():
        return PlanTrainer(plan, prepared, plan.fingerprint, model, arguments, batches)


def held_in(plan: Plan, computes: str) -> str:
    """What the model before is loaded in: bfloat16 where it came in it and is computed in it, else float32."""
    # An adapter's product is added to its base in float32, where nothing of it is lost.
    adapter = (folder_of(plan.before) / ADAPTER_CONFIG).is_file()
    folder = computed_folder(folder_of(plan.before), **consent(plan.before))
    own = getattr(plan.before, "torch_dtype", None) or stored_precision(folder).own
    half = computes == HALF and (in_4bit(plan) or own == HALF)
    return HALF if half and not adapter else SINGLE


def masters(model: Any) -> Any:
    """What moves is float32, so that small updates add up: the adapters on a base that stays as it is, the bridge (and
    what else may move) of a model that listens, or the model."""
    if not hasattr(model, "peft_config") and not hasattr(model, "speller"):
        return model.float()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _keep(trainer: PlanTrainer, out: Path, moments: int) -> Keep | None:
    if not moments:
        return None
    from mnemos.train.moments import Keep

    keep = Keep(trainer, out, moments)
    trainer.add_callback(keep)
    return keep


def _evaluate(trainer: PlanTrainer, prepared: Prepared, out: Path) -> Evaluate | None:
    if not prepared.held:
        return None
    from mnemos.train.evaluation import Evaluate

    # Behind those that ask for checkpoints: none is written of the step at which training is stopped.
    evaluate = Evaluate(trainer, prepared.held, out)
    trainer.add_callback(evaluate)
    return evaluate


def _run(trainer: PlanTrainer, plan: Plan, prepared: Prepared, out: Path, quiet: bool) -> None:
    from mnemos.train.counted import Counted
    from mnemos.train.documents import plain_attention
    from mnemos.train.frozen import Before
    from mnemos.train.resume import clear, latest
    from mnemos.train.stage import begin

    found = latest(out / "checkpoints", trainer.training)
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        clear(out / "checkpoints", keep=found[0] if found else None)
    if found is not None:
        trainer.continue_from(*found)
        # Before transformers loads the checkpoint: afterwards the start weights are gone.
        trainer.start.copy_now()
    with plain_attention(trainer.model):
        # Split passes only on one process: with FSDP every forward pass waits for the others, and their rows would be
        # cut into other numbers of passes.
        # Chunks of logits need the output layer's weights whole outside the model's forward pass.
        whole = not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
        split = trainer.args.world_size == 1
        trainer.way = trainer.batches.way(_longest(plan, prepared), split=split, chunks=whole)
        device = trainer.args.device
        trainer.before = Before(trainer.model, lambda: load_before(plan.before), trainer.way, device)
        assert trainer.stage is not None
        doing("preparing the training")
        trainer.terms, trainer.rules = begin(trainer.stage)
        if found is not None:
            trainer.continue_terms(found[1])
        try:
            with counting(0, "steps") as count:
                trainer.add_callback(Counted(trainer, count))
                trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
        except KeyboardInterrupt:
            if not quiet:
                note(_stopped(trainer, out))
            raise
        trainer.close()
        trainer.metrics.end_moment(trainer.state.global_step)
        # Frozen copies are given back before the model is written, which needs memory too.
        trainer.before, trainer.stage, trainer.terms, trainer.rules = None, None, (), ()


def _longest(plan: Plan, prepared: Prepared) -> int:
    """Tokens of the longest example that may pass through the model, rows of other sources included."""
    values: tuple[Any, ...] = (*plan.objective, *plan.gradient)
    if not draws.known(plan.draw).in_data:
        # Answers that are not written yet may fill a row up.
        return plan.train.max_length
    more = any(hasattr(value, "begin") and value.old is not None for value in values)
    return plan.train.max_length if more else prepared.longest


def _stopped(trainer: PlanTrainer, out: Path) -> str:
    from mnemos.train.resume import latest

    found = latest(out / "checkpoints", trainer.training)
    rest = f"the same command continues from step {found[1].step}" if found else "no checkpoint yet"
    return f"stopped at step {trainer.state.global_step} of {trainer.state.max_steps}; {rest}"


def _save(trainer: PlanTrainer, plan: Plan, prepared: Prepared, tokenizer: Any, out: Path, keep: Keep | None) -> None:
    """Write out/model (and out/adapter), and the same below out/moments; the checkpoints are no longer
    needed then."""
    from mnemos.train.resume import clear

    trainer.restore_caching()
    left = [_write(trainer, plan, prepared, tokenizer, out)]
    if trainer.args.should_save:
        # After the end's own model, because the weights of earlier moments are put into the trained one.
        for number in range(1, keep.moments) if keep else ():
            assert keep is not None
            keep.restore(number)
            left.append(_write(trainer, plan, prepared, tokenizer, keep.folder / str(number)))
    # From here on files are read, and no second model stands beside the trained one.
    trainer.release()
    trim()
    if trainer.args.should_save:
        took = [_complete(one, plan, tokenizer) for one in left]
        trainer.saved = took[0]
        clear(out / "checkpoints")
        if keep:
            keep.tidy()
    trainer.accelerator.wait_for_everyone()


@dataclass(frozen=True)
class _Left:
    """What the trained model leaves in `trained`, before merging and arithmetic make out/model of it. prompts, adapted:
    of `_logits_to_check`, where it is an adapter that is to be merged."""

    out: Path
    trained: Path
    rounding: Rounding | None
    prompts: Any = None
    adapted: Any = None


def _write(trainer: PlanTrainer, plan: Plan, prepared: Prepared, tokenizer: Any, out: Path) -> _Left:
    """Write what was trained as the model is. Sharded weights are gathered by all processes together, written by the
    main one."""
    trainer.refuse_nonfinite()
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    adapter = hasattr(model, "peft_config")
    merge = adapter and plan.train.keep_merged and not plan.after
    prompts, adapted = _logits_to_check(model, trainer.batches.probe(prepared)) if merge else (None, None)
    # Beside a base in 4 bits they are not what the merged model's will be.
    adapted = None if in_4bit(plan) else adapted
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    name = "adapter" if adapter and (plan.train.keep_merged or plan.after) else ".trained" if plan.after else "model"
    with rounding(plan.before) as cast:
        if not trainer.args.should_save:
            trainer.save_trained(out, cast)
        else:
            with quiet_peft(), whole(out / name) as folder:
                trainer.save_trained(folder, cast)
                finish(folder, plan.before, tokenizer)
                if adapter:
                    record_base(folder, plan.before, out)
    return _Left(out, out / name, None if adapter else cast, prompts, adapted)


def _complete(left: _Left, plan: Plan, tokenizer: Any) -> Rounding | None:
    """Make out/model of what training left, and say what rounding took of it."""
    took = left.rounding
    if left.prompts is not None:
        with whole(left.out / "model") as folder:
            took = merge_adapter(left.trained, plan.before, left.prompts, left.adapted, folder)
            finish(folder, plan.before, tokenizer)
    if plan.after:
        apply_after(plan.after, left.trained, plan.before, left.out / "model")
        if left.trained.name == ".trained":
            shutil.rmtree(left.trained)
    return took


def _logits_to_check(model: Any, prompts: dict[str, Any]) -> tuple[Any, Any]:
    """A few prompts, as the model's input, and the trained model's logits on them (float[B, T, V])."""
    import torch

    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        there = {name: one.to(device) if hasattr(one, "to") else one for name, one in prompts.items()}
        logits = model(**there).logits
    return prompts, logits.cpu()


def _result(
    trainer: PlanTrainer, prepared: Prepared, out: Path, seconds: float, peak: Peak, moments: int
) -> TrainResult:
    import torch

    steps = trainer.state.global_step
    tokens, supervised = trainer.batches.read()
    phases = peak.phases()
    own = torch.tensor([list(phases.values())], device=trainer.args.device)
    highest = trainer.accelerator.gather(own).max(dim=0).values.tolist()
    return TrainResult(
        model=str(out / "model"),
        seconds=seconds,
        steps=steps,
        tokens=tokens,
        supervised_tokens=supervised,
        peak_memory_bytes=int(max(highest)),
        peak_memory_phases=dict(zip(phases, map(int, highest), strict=True)),
        trainable_parameters=trainer.trainable_parameters,
        total_parameters=trainer.total_parameters,
        losses=trainer.losses,
        counts={**prepared.counts, **trainer.batches.counted()},
        first_tokens=prepared.first_tokens,
        noted=trainer.metrics.logged,
        moments=trainer.metrics.moments if moments else [],
        dtype=HALF if trainer.args.bf16 else SINGLE,
        # Read, not concluded: arithmetic and merging come behind what the trainer itself saved.
        saved_dtype=written_dtype(out / "model") if trainer.args.should_save else SINGLE,
        rounding=trainer.saved.share if trainer.saved else None,
    )
