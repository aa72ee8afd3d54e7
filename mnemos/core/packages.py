"""Packages that may be absent: one way to look for one, and one sentence that says how it is had.

What mnemos itself requires is there wherever it was installed with pip, but not where only a part of it was, as
`make demo` does. Extras bring what one room needs; they are read from the metadata of the installed mnemos.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re

from mnemos.core.errors import UsageError

DISTRIBUTIONS = {"sklearn": "scikit-learn", "ruamel": "ruamel.yaml", "lm_eval": "lm-eval", "yaml": "PyYAML"}
"""Modules that are not called as the distribution that brings them."""


def require(what: str, *packages: str, otherwise: str = "") -> None:
    """Raise UsageError where one of the packages is not installed.

    what: the verb, key or file that needs them. packages: as they are imported. otherwise: what helps without them.
    Nothing is imported: a package that is there and cannot be loaded is found by whoever loads it.
    """
    absent = [name for name in packages if not there(name)]
    if absent:
        raise missing(what, *absent, otherwise=otherwise)


def there(package: str) -> bool:
    """Whether a top-level package can be imported, as far as is known without doing so."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module in sys.modules that has no spec, as stand-ins of tests
        return True


def missing(what: str, *packages: str, why: object = "", otherwise: str = "") -> UsageError:
    """The error of packages that are absent. why: what the import said, where one was tried."""
    bound = f"needs the package {packages[0]}" if len(packages) == 1 else f"needs the packages {' and '.join(packages)}"
    cure = command(*packages)
    return UsageError(what, f"{bound} ({why})" if why else bound, f"{cure}, or {otherwise}" if otherwise else cure)


def command(*packages: str) -> str:
    """The command that installs the packages: by their extra, or what mnemos requires anyway, or by their own names.

    A package of several extras is had by the first. In a checkout, the environment of the demo holds a part of what
    mnemos requires, and `make venv` the rest.
    """
    names = [DISTRIBUTIONS.get(package, package) for package in packages]
    places = {extra_of(name) for name in names}
    if len(places) == 1 and None not in places:
        (extra,) = places
        return f'pip install "mnemos[{extra}]"' if extra else "make venv in a checkout, else pip install mnemos"
    return f"pip install {' '.join(names)}"


def extra_of(distribution: str) -> str | None:
    """The extra of mnemos that brings a distribution; "" for what mnemos always requires, None for any other one."""
    try:
        lines = importlib.metadata.requires("mnemos") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source
        lines = []
    found: set[str] = set()
    for line in lines:
        name, _, marker = line.partition(";")
        if _plain(re.split(r"[^\w.-]", name.strip(), maxsplit=1)[0]) == _plain(distribution):
            extra = re.search(r"""extra *== *["']([\w.-]+)["']""", marker)
            found.add(extra[1] if extra else "")
    return min(found, default=None)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
