"""Where results are kept that belong to no run: what `compare` and `gate` asked models before."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mnemos.core.cache import cache_folder
from mnemos.core.fingerprint import file_fingerprint, fingerprint


def measured_folder() -> Path:
    """Where measurements are kept: a folder for each state of this package's source, so that no answer or score of
    an earlier version is taken for one of this version."""
    return cache_folder() / "measured" / _source()


@lru_cache(maxsize=1)
def _source() -> str:
    package = Path(__file__).parents[1]
    # By content and place within the package: two installations of one version share what they measured.
    return fingerprint({str(path.relative_to(package)): file_fingerprint(path) for path in package.rglob("*.py")})
