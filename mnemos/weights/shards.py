"""Writing tensors into safetensors files of a chosen size, piece by piece, so that a kill loses one shard.

Everything about the files is known before the first value is computed: names, offsets, headers.
A shard is written under another name and renamed when it is whole; a later call with the same
plan keeps the whole ones and goes on.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mnemos.core import files
from mnemos.core.errors import RunError
from mnemos.core.files import write_json
from mnemos.weights.tensors import CODES, bytes_of

Piece = tuple[int, torch.Tensor]
"""(first element, values): a part of a tensor, in the dtype that it is written in."""


@dataclass(frozen=True)
class Target:
    """A tensor to write. make: yields its pieces in any order, each element once."""

    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Iterator[Piece]]

    @property
    def bytes(self) -> int:
        """On disk."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Shard:
    """One file. header: as it stands in it. offsets: of each target's first byte in the file."""

    name: str
    header: bytes
    targets: tuple[Target, ...]
    offsets: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """On disk."""
        return len(self.header) + sum(target.bytes for target in self.targets)


def shard(name: str, targets: Sequence[Target], header: bytes | None = None) -> Shard:
    """Lay targets out in a file. header: one to use as it stands, where the targets fit it."""
    if header is None:
        # Wide numbers first, as safetensors does: each tensor then lies at a multiple of its item.
        targets = sorted(targets, key=lambda target: (-target.dtype.itemsize, target.key))
        words: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        at = 0
        for one in targets:
            words[one.key] = {"dtype": CODES[one.dtype], "shape": list(one.shape), "data_offsets": [at, at + one.bytes]}
            at += one.bytes
        text = json.dumps(words, separators=(",", ":")).encode()
        # With the 8 bytes of length before it the numbers then begin at a multiple of 8.
        text += b" " * (-len(text) % 8)
        header = struct.pack("<Q", len(text)) + text
    where = json.loads(header[8:])
    offsets = tuple(len(header) + where[target.key]["data_offsets"][0] for target in targets)
    return Shard(name, header, tuple(targets), offsets)


def fits(header: bytes, targets: Sequence[Target]) -> bool:
    """Whether a header that stands in some file describes exactly these tensors."""
    where = json.loads(header[8:])
    where.pop("__metadata__", None)
    wanted = {target.key: (CODES[target.dtype], list(target.shape)) for target in targets}
    return wanted == {key: (text["dtype"], text["shape"]) for key, text in where.items()}


def pack(targets: Sequence[Target], size: int, stem: str) -> list[Shard]:
    """Targets in their order, in files of at most `size` bytes of tensors (one at least in each)."""
    groups: list[list[Target]] = [[]]
    room = size
    for target in targets:
        if groups[-1] and target.bytes > room:
            groups.append([])
            room = size
        groups[-1].append(target)
        room -= target.bytes
    count = len(groups)
    several = [f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    names = several if count > 1 else [f"{stem}.safetensors"]
    return [shard(name, group) for name, group in zip(names, groups, strict=True)]


def index(shards: Sequence[Shard]) -> dict[str, Any]:
    """The content of the index file: which tensor lies in which shard."""
    where = {target.key: one.name for one in shards for target in one.targets}
    return {"metadata": {"total_size": sum(t.bytes for one in shards for t in one.targets)},
            "weight_map": dict(sorted(where.items()))}  # fmt: skip


PLAN = ".plan.json"


def write(shards: Sequence[Shard], folder: Path, plan: Any, *, threads: int | None) -> int:
    """Write every shard into `folder`; returns how many were there already.

    plan: JSON value of everything that decides the values. A folder that was begun under another
    plan is emptied first. Raises RunError on a full disk; what is whole by then stays.
    """
    # Whole shards of another plan look like ours by name and size; nothing of them may be kept.
    if (folder / PLAN).is_file() and json.loads((folder / PLAN).read_text(encoding="utf-8")) != plan:
        shutil.rmtree(folder)
    with full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, plan)
        missing = [one for one in shards if not _whole(folder / one.name, one)]
        need, free = sum(one.bytes for one in missing), shutil.disk_usage(folder).free
        if need > free:
            raise RunError(f"{folder}", f"the disk is full: {need:,} bytes are needed, {free:,} free", "free some room")
        with pool(threads) as workers:
            for one in missing:
                _write(one, folder / one.name, workers)
    return len(shards) - len(missing)


def _whole(file: Path, one: Shard) -> bool:
    # The size is enough: a file gets this name only when it is whole, and the plan is the same.
    return file.is_file() and file.stat().st_size == one.bytes


@contextmanager
def pool(threads: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads that work on a tensor each, and for which torch starts no further threads. threads:
    as many as there are processors, at most four, unless given."""
    before = torch.get_num_threads()
    threads = threads or min(4, len(os.sched_getaffinity(0)))
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers:
            yield workers
    finally:
        torch.set_num_threads(before)


def _write(one: Shard, file: Path, workers: ThreadPoolExecutor) -> None:
    part = file.with_name(f".{file.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        _reserve(descriptor, one.bytes)
        _put(descriptor, memoryview(one.header), 0)
        # The largest first, so that no thread is left alone with it in the end.
        order = sorted(zip(one.targets, one.offsets, strict=True), key=lambda pair: -pair[0].bytes)
        running = [workers.submit(_fill, descriptor, target, offset) for target, offset in order]
        try:
            for future in running:
                future.result()
        finally:
            for future in running:
                future.cancel()
            for future in running:
                if not future.cancelled():
                    future.exception()  # waits, so that nobody writes into a closed file
    finally:
        os.close(descriptor)
    os.replace(part, file)


def _reserve(descriptor: int, size: int) -> None:
    try:
        # A disk that is too small says so before hours of arithmetic; not every file system can reserve.
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _fill(descriptor: int, target: Target, offset: int) -> None:
    for start, values in target.make():
        if values.numel():
            _put(descriptor, bytes_of(values), offset + start * target.dtype.itemsize)


def _put(descriptor: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(descriptor, data, at)
        data, at = data[done:], at + done


def full_disk(folder: Path) -> AbstractContextManager[None]:
    """Turn a full disk into a RunError that says what is kept."""
    return files.full_disk(folder, "free some room and run the same command again: whole shards are kept")
