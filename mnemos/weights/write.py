"""One expression over checkpoints, written as a complete model without loading any of them.

Tensors are read, computed and written a block of rows at a time, so memory grows neither with the
models nor with their number. Sums are accumulated in float32 (float64 where the result is) and
rounded once.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from filelock import FileLock, Timeout

from mnemos.core.errors import ModelError, RunError, UsageError, nearest
from mnemos.core.files import write_json
from mnemos.weights.card import write_card
from mnemos.weights.combination import Combination
from mnemos.weights.files import VECTOR
from mnemos.weights.lora import open_weights
from mnemos.weights.merge import NAMED_DTYPES, How, Merge, Merged, kept_shares, plan
from mnemos.weights.merge_files import write_rest
from mnemos.weights.shards import PLAN, Shard, fits, full_disk, index, pack, shard, write
from mnemos.weights.speech import name_parts
from mnemos.weights.tensors import Weights


def combine(
    expression: Combination, checkpoints: Mapping[str, Path], out: Path, *, parent: str, how: How | None = None
) -> Merged:
    """Write the expression's value as a complete Hugging Face directory at `out`, atomically.

    checkpoints: name -> directory (model, adapter or saved difference), for every name of
    `expression`. parent: the trunk, whose configuration, dtypes, heads and tensors without
    arithmetic (integers, booleans) the result has; its embeddings stay tied if they are. With
    {parent: 1.0} every tensor is bit-identical to the parent's.

    A killed call leaves `.<name>.partial` beside `out`; the same call continues there. Raises
    UsageError for an unknown name, ModelError naming the tensor and both shapes where checkpoints
    do not fit each other, for different vocabularies, and for values that are not finite;
    RunError when `out` is not empty or the disk is full.
    """
    how = how or How()
    _check_names(expression, checkpoints, parent, how)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}", "is there already", "remove it or choose another place")
    with ExitStack() as stack:
        opened: dict[str, Weights] = {}
        for name in dict.fromkeys([parent, *expression.names, *how.givers]):
            opened[name] = open_weights(name, Path(checkpoints[name]))
            stack.callback(opened[name].close)
        merge = plan(expression, opened, parent, how)
        out.parent.mkdir(parents=True, exist_ok=True)
        # Behind the plan: a merge that is refused writes nothing, not even a lock.
        stack.enter_context(_alone(out))
        return _write(merge, out)


def _check_names(expression: Combination, checkpoints: Mapping[str, Path], parent: str, how: How) -> None:
    for name in (parent, *expression.names, *how.givers):
        if name not in checkpoints:
            raise UsageError(f"checkpoint {name!r} in {expression}", "is not given", nearest(name, checkpoints))
    if any(call.operator == "soup" for call in expression.calls):
        raise UsageError(
            f"{expression}", "soup is chosen by measuring, which arithmetic alone cannot", "use `mnemos merge --suites`"
        )
    if how.dtype is not None and how.dtype not in NAMED_DTYPES:
        raise UsageError(f"dtype {how.dtype!r}", "is not one to write", nearest(how.dtype, NAMED_DTYPES))


class _alone:  # noqa: N801 - reads as a function
    """Nobody else writes the same result at the same time."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.lock = FileLock(out.with_name(f".{out.name}.lock"))

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            if not Path(self.lock.lock_file).exists():  # filelock waits for a folder that takes no file, too
                raise RunError(f"{self.out}", "cannot be written there", "choose another place") from None
            raise RunError(
                f"{self.out}", "is being written by another process", "wait for it, or choose another place"
            ) from None

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        Path(self.lock.lock_file).unlink(missing_ok=True)


def _write(merge: Merge, out: Path) -> Merged:
    partial = out.with_name(f".{out.name}.partial")
    shards = _layout(merge)
    recipe = {
        "expression": str(merge.expression),
        "who": [merge.who.trunk, merge.who.tokenizer, merge.who.template],
        # The number of threads changes no value, so a merge may be continued with another.
        "how": asdict(replace(merge.how, threads=None)),
        "files": {name: one.identity() for name, one in merge.opened.items()},
        "shards": [one.name for one in shards],
    }
    try:
        resumed = write(shards, partial, recipe, threads=merge.how.threads)
        with full_disk(partial):
            return _finish(merge, shards, partial, out, resumed)
    except (ModelError, UsageError):  # the same call would fail the same way: nothing to continue
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _layout(merge: Merge) -> list[Shard]:
    stem = "vector" if merge.how.vector else "model"
    if merge.how.shard_size is not None or merge.how.vector:
        # 2**62 bytes: one file, whatever the size.
        return pack(merge.targets, merge.how.shard_size or 2**62, stem)
    by_key = {target.key: target for target in merge.targets}
    out = []
    for file, header, keys in merge.trunk.files:
        held = [by_key[key] for key in keys]
        out.append(shard(file.name, held, header if fits(header, held) else None))
    return out


def _finish(merge: Merge, shards: Sequence[Shard], partial: Path, out: Path, resumed: int) -> Merged:
    # A call that was killed here has left configuration files; they are written anew.
    for file in set(partial.iterdir()) - {partial / one.name for one in shards} - {partial / PLAN}:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    if len(shards) > 1:
        stem = "vector" if merge.how.vector else "model"
        write_json(partial / f"{stem}.safetensors.index.json", index(shards))
    write_rest(partial, merge.opened, merge.who, merge.alignment, NAMED_DTYPES.get(merge.how.dtype or ""))
    name_parts(partial, merge.trunk.adapter or merge.trunk.folder)
    sizes: dict[str, int] = {}
    for target in merge.targets:
        kind = str(target.dtype).removeprefix("torch.")
        sizes[kind] = sizes.get(kind, 0) + math.prod(target.shape)
    merged = Merged(
        str(merge.expression),
        {name: str(one.adapter or one.folder) for name, one in merge.opened.items()},
        merge.who,
        merge.how,
        sizes,
        sum(target.bytes for target in merge.targets),
        resumed,
        tuple(merge.warnings),
        merge.alignment.notes if merge.alignment is not None else (),
        kept_shares(merge),
    )
    if merge.how.vector:
        made = {"expression": merged.expression, "checkpoints": merged.checkpoints, "untied": merge.trunk.untied}
        write_json(partial / VECTOR, made)
    if merge.how.card:
        write_card(partial, merged)
    # From here to the end there is nothing to continue: the plan goes, then the one rename makes it visible.
    (partial / PLAN).unlink()
    if out.is_dir():
        out.rmdir()
    os.replace(partial, out)
    return merged
