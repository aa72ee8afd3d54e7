"""Writing what was learned: a complete Hugging Face directory, whole or not there at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from mnemos.core import files
from mnemos.core.errors import ModelError
from mnemos.core.files import write_json
from mnemos.core.places import resolved
from mnemos.core.plan import ModelHandle
from mnemos.core.progress import note
from mnemos.train.rounding import Rounding
from mnemos.weights.adapter import MERGE_TOLERANCE
from mnemos.weights.expression import parse
from mnemos.weights.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PROCESSORS, TOKENIZER, matches, read_config
from mnemos.weights.merge import How
from mnemos.weights.precision import SINGLE, Precision, record_precision, stored_precision, written_dtype
from mnemos.weights.tensors import Weights
from mnemos.weights.write import combine


def load_before(before: ModelHandle, dtype: str = SINGLE, *, load_in_4bit: bool = False) -> Any:
    """The model before the stage, fresh, on the CPU (in 4 bits, where it will compute); adapters are merged in."""
    from mnemos.models.load import load_model
    from mnemos.models.recognisers.classes import hears

    return load_model(
        before.path, dtype=dtype, merge=True, load_in_4bit=load_in_4bit, hears=hears(before.path), **consent(before)
    )


def consent(before: ModelHandle) -> dict[str, bool]:
    """What the user has allowed this checkpoint to bring, by name."""
    return {name: bool(getattr(before, name, False)) for name in ("trust_remote_code", "allow_pickle")}


def saved_precision(before: ModelHandle) -> Precision:
    """What a model that is trained from `before` is saved in: the dtype that was asked for, else the one it came in."""
    asked = getattr(before, "torch_dtype", None)
    return Precision(asked) if asked else stored_precision(folder_of(before))


@contextmanager
def rounding(before: ModelHandle) -> Iterator[Rounding]:
    """What casts trained weights to `saved_precision`, with the weights before open beside it."""
    from mnemos.weights.lora import open_weights

    precision = saved_precision(before)
    try:
        opened = open_weights("before", folder_of(before))
    except ModelError:  # pickles, quantised numbers, adapters that can only be merged in memory
        opened = None
    try:
        yield Rounding(precision, opened)
    finally:
        if opened is not None:
            opened.close()


def folder_of(before: ModelHandle) -> Path:
    """The local directory of a handle; a hub id is looked up in the cache."""
    from mnemos.weights.checkpoint import resolve

    return resolve(before.path, **consent(before))


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A temporary directory beside `target` that takes its place when the block succeeds.

    Raises RunError when the disk is full; what was at `target` is then still there.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with full_disk(target):
        temporary.mkdir(parents=True)
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        # Two renames: a directory cannot take the place of one that holds something.
        if target.exists():
            os.rename(target, old)
        os.rename(temporary, target)
        shutil.rmtree(old, ignore_errors=True)


def full_disk(target: Path) -> AbstractContextManager[None]:
    """Turn a full disk into a RunError that says how training goes on."""
    cure = "free some room and run the same command again: it continues from the last complete checkpoint"
    return files.full_disk(target, cure)


def sound_generation(model: Any) -> None:
    """Replace a generation configuration that transformers would refuse to write (a temperature
    without sampling, say). `finish` puts the original file back, so nothing of it is lost."""
    from transformers import GenerationConfig

    settings = getattr(model, "generation_config", None)
    if settings is None:
        return
    try:
        settings.validate(strict=True)
    except ValueError:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        model.generation_config = GenerationConfig(**{name: getattr(settings, name, None) for name in names})


def finish(folder: Path, before: ModelHandle, tokenizer: Any) -> None:
    """Complete a saved model: tokenizer, chat template, the dtype in its configuration, and the generation
    configuration of the model before, byte for byte."""
    # A pickle that transformers leaves beside the weights: no reader needs it, and loading one runs code.
    (folder / "training_args.bin").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    # With what makes features of sound, where the model hears.
    for name in ("generation_config.json", *PROCESSORS):
        original = folder_of(before) / name
        if original.is_file():
            shutil.copyfile(original, folder / name)
    if (folder / "config.json").is_file():
        record_precision(folder, saved_precision(before).own)


def record_base(folder: Path, before: ModelHandle, out: Path) -> None:
    """Write into an adapter's configuration which model it stands on. A model that lies beside the stage's directory
    `out`, as an earlier stage of the same run does, is named from the adapter's place, so that both can be moved."""
    file, base = folder / ADAPTER_CONFIG, Path(before.path)
    config = read_config(file, "the adapter's configuration")
    if base.is_dir() and resolved(base).is_relative_to(resolved(out).parent):
        config["base_model_name_or_path"] = os.path.relpath(resolved(base), resolved(folder))
    write_json(file, config)


def merge_adapter(adapter: Path, before: ModelHandle, prompts: Mapping[str, Any], adapted: Any, out: Path) -> Rounding:
    """Write the base with the adapter of a directory added in, tensor by tensor from the files of both, and check it.

    An adapter that cannot be added so (see `weights.lora`) is merged in memory. prompts: what the model is called
    with, by name. adapted: float[B, T, V], the trained model's logits on them; None where it was trained on a base in
    4 bits, and peft's on the base as it came are the reference. Returns what rounding took. Raises ModelError where
    the base with the adapter added in gives logits that differ by more than MERGE_TOLERANCE, before anything is
    rounded.
    """
    from mnemos.weights.lora import open_weights

    with rounding(before) as cast:
        try:
            folded = open_weights("after", adapter)
        except ModelError:
            merged = _with_adapter(adapter, before)
            if adapted is not None:
                _check(adapter, merged, prompts, adapted)
            sound_generation(merged)
            merged.save_pretrained(out, state_dict=cast.saved(merged.state_dict()))
            return cast
        try:
            model = load_before(before)
            if adapted is None:
                model, adapted = _beside(model, adapter, prompts)
            _fold(model, folded)
            _check(adapter, model, prompts, adapted)
            del model
            cast.fold(folded)
        finally:
            folded.close()
    combine(
        parse("after"), {"after": adapter}, out, parent="after", how=How(dtype=getattr(before, "torch_dtype", None))
    )
    return cast


def _with_adapter(adapter: Path, before: ModelHandle) -> Any:
    from mnemos.weights.adapter import attached, merged

    return merged(attached(load_before(before), adapter), adapter)


def _beside(model: Any, adapter: Path, prompts: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model as it is, and its logits with the adapter beside it."""
    import torch

    from mnemos.weights.adapter import attached

    adapted = attached(model, adapter)
    with torch.no_grad():
        logits = adapted(**prompts).logits
    return adapted.unload(), logits


def _fold(model: Any, folded: Weights) -> None:
    """Put the adapted tensors of an opened adapter into its base, unrounded."""
    import torch

    from mnemos.weights.adapter import untie

    if folded.untied:
        untie(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            place = folded.find(name)
            if place is not None and (place in folded.patches or folded.stored[place].file.name == ADAPTER_WEIGHTS):
                block = folded.view(place).block(0, parameter.numel(), torch.float32)
                parameter.copy_(block.view(parameter.shape))


def _check(adapter: Path, merged: Any, prompts: Mapping[str, Any], adapted: Any) -> None:
    import torch

    with torch.no_grad():
        logits = merged(**prompts).logits
    # Fifty times as much where the adapter itself was computed in 16 bits.
    bound = MERGE_TOLERANCE * (1 if adapted.dtype == torch.float32 else 50)
    difference = float((logits - adapted.float()).abs().max() / adapted.abs().max().clamp(min=1e-6))
    # Written so that NaN is refused too.
    if not difference <= bound:
        raise ModelError(
            f"{adapter}: merged logits differ from the adapter's by {difference:.2g} of the largest",
            f"at most {bound} is rounding",
            "use the adapter as it is (it is complete), and report this model and peft version",
        )


def apply_after(after: Sequence[Any], trained: Path, before: ModelHandle, out: Path) -> None:
    """Arithmetic on the weights: each expression in order, its result the next one's `after`.

    after: values of Plan.after (`methods.after.arithmetic.WeightExpression`), over the names `after`, `before`
    and those of their own models. trained: the directory that the stage left; configuration,
    tokenizer and chat template stay its, and so do dtypes unless one was asked for `before`. Writes a complete
    directory at `out`, atomically. Raises as `weights.write.combine` does.
    """
    # An adapter has no dtype of its own to go by: with its base's, an average would be rounded that was to be kept.
    asked = getattr(before, "torch_dtype", None)
    scratch = out.with_name(f".{out.name}.after")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with whole(out) as folder:
            current = trained
            for number, step in enumerate(after):
                # Only the last result is kept; those between lie beside the target and go away.
                target = folder if number == len(after) - 1 else scratch / str(number)
                named = {"after": current, "before": folder_of(before)}
                named.update({name: folder_of(handle) for name, handle in step.models})
                places = {
                    name: _tensorwise(place, scratch / f"{number}-{name}", asked) for name, place in named.items()
                }
                how = How(dtype=asked, embeddings=step.embeddings, tokenizer="after", template="after")
                merged = combine(parse(step.expression), places, target, parent="after", how=how)
                for line in merged.warnings:
                    note(f"weights: {merged.expression}: {line}")
                current = target
            if after:
                record_precision(folder, written_dtype(folder))
            else:
                shutil.copytree(trained, folder, dirs_exist_ok=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _tensorwise(folder: Path, scratch: Path, asked: str | None) -> Path:
    """A checkpoint whose tensors can be read one by one: the folder itself, or in `scratch` the merged model of an
    adapter that `weights.lora` cannot add to its base. asked: the dtype that it is written in, else its base's."""
    from mnemos.models.load import load_model
    from mnemos.models.recognisers.classes import hears
    from mnemos.weights.lora import open_weights

    if not (folder / ADAPTER_CONFIG).is_file():
        return folder
    try:
        open_weights(folder.name, folder).close()
        return folder
    except ModelError:
        pass
    merged = load_model(str(folder), merge=True, hears=hears(str(folder)))
    sound_generation(merged)
    own = Precision(asked) if asked else stored_precision(folder)
    merged.save_pretrained(scratch, state_dict=Rounding(own, None).saved(merged.state_dict()))
    record_precision(scratch, own.own)
    for file in folder.iterdir():
        if matches(file.name, (*TOKENIZER, *PROCESSORS)):
            shutil.copyfile(file, scratch / file.name)
    return scratch
