"""What every page is made of: the served folder and what was read of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mnemos.core.fingerprint import fingerprint
from mnemos.serve import places
from mnemos.serve.index import Index
from mnemos.serve.places import Run
from mnemos.serve.prompts import Prompts
from mnemos.serve.summary import Results
from mnemos.serve.voting import Votes


class Served:
    """A folder of runs. cache: where the index lies. seed: draws the orders of votes. Raises UsageError where `root` is
    no folder."""

    def __init__(self, root: Path, *, cache: Path, seed: int = 0) -> None:
        self.root, self.seed = places.served_folder(root), seed
        self.index = Index(cache / f"answers-{fingerprint(str(self.root))}.sqlite")
        self.results = Results(self.index)
        self.prompts = Prompts()
        self.votes = Votes(self.root)

    def run(self, query: Mapping[str, str]) -> Run:
        """The run that an address names. Raises AbsentError."""
        return places.run_named(self.root, query.get("run", ""))
