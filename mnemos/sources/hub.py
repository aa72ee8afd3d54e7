"""Hugging Face data sets: saved to disk, or on the hub (and in its cache, when offline)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.sources.arrow import as_written
from mnemos.sources.files import Raw


def is_saved(folder: Path) -> bool:
    """Whether `datasets` wrote this folder with save_to_disk."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


@dataclass(frozen=True)
class SavedDataset:
    """A folder written by save_to_disk, one split of it where there are several."""

    path: Path
    split: str

    @cached_property
    def folder(self) -> Path:
        """Where the split lies. Raises DataError when there is no such split."""
        if not (self.path / "dataset_dict.json").is_file():
            return self.path
        folder = self.path / self.split
        if not is_saved(folder):
            there = ", ".join(sorted(p.name for p in self.path.iterdir() if is_saved(p)))
            raise DataError(f"{self.path}", f"has no split {self.split!r}", f"splits there: {there}")
        return folder

    @property
    def fingerprint(self) -> str:
        """Of the data files' bytes and of which of their rows count (state.json)."""
        files = sorted(p for p in self.folder.iterdir() if p.is_file())
        return fingerprint({p.name: file_fingerprint(p) for p in files})

    @cached_property
    def _loaded(self) -> Any:
        import datasets

        try:
            return datasets.load_from_disk(str(self.folder))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.folder}", f"cannot be loaded ({error})", "save the data set again") from None

    def rows(self) -> Iterator[Raw]:
        """Its rows as they stand there."""
        for number, row in enumerate(self._loaded, 1):
            yield Raw(f"{self.path}, row {number:,}", f"{self.path.name}:{number}", as_written(row))

    def count(self) -> int:
        """How many rows there are."""
        return len(self._loaded)


@dataclass(frozen=True)
class HubDataset:
    """A data set on the hub, ``owner/name`` or ``owner/name:configuration``.

    Rows come from the commit that the fingerprint names: offline, the one in the cache.
    """

    location: str
    split: str

    @cached_property
    def _builder(self) -> Any:
        import datasets

        path, _, configuration = self.location.partition(":")
        try:
            return datasets.load_dataset_builder(path, configuration or None)
        except (OSError, ValueError, RuntimeError) as error:
            # ConnectionError, DatasetNotFoundError and OfflineModeIsEnabled are all among these.
            text = str(error).strip().splitlines()
            raise DataError(
                self.location,
                "is no file or folder here, and no data set that the hub or its cache gives"
                + (f" ({text[0][:200]})" if text else ""),
                "check the name; offline, load it once with a connection (datasets.load_dataset), or give a file",
            ) from None

    @property
    def fingerprint(self) -> str:
        """Of the commit, the configuration and the split; reads no rows."""
        builder = self._builder
        if not builder.hash:
            raise DataError(self.location, "has no commit that could be named", "download it and give the files")
        return fingerprint([self.location, str(builder.hash), str(builder.config.name), self.split])

    @cached_property
    def _loaded(self) -> Any:
        builder = self._builder
        builder.download_and_prepare()
        splits = list(builder.info.splits or ())
        if splits and self.split not in splits:
            raise DataError(self.location, f"has no split {self.split!r}", f"splits there: {', '.join(splits)}")
        return builder.as_dataset(split=self.split)

    def rows(self) -> Iterator[Raw]:
        """Its rows as they stand there."""
        stem = self.location.replace(":", "/")
        for number, row in enumerate(self._loaded, 1):
            yield Raw(f"{self.location}, row {number:,}", f"{stem}:{number}", as_written(row))

    def count(self) -> int:
        """How many rows there are."""
        return len(self._loaded)
