"""Makes what `how-much-is-lost` reads: two base patients smaller than the shipped one, and texts by which what was
forgotten is measured.

The smaller ones read the shipped one's own text in the same order, 614,000 tokens of it (the shipped one
read 4.9 million), so they know less: what a size forgets is set against what that size knew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.recipes.patient import load_recipe, ship
from mnemos.recipes.patient_data import WorldSettings, base_texts
from mnemos.recipes.reproductions.chinese_text import truths
from mnemos.recipes.reproductions.invented_people import random_model
from mnemos.recipes.worlds.english import english
from mnemos.recipes.worlds.seed import chance
from mnemos.sources.mix import Rows

Row = dict[str, Any]

SIZES = {"small": {"hidden_size": 64, "num_hidden_layers": 3}, "middle": {"hidden_size": 96, "num_hidden_layers": 4}}
"""0.33 and 0.79 million parameters; the shipped base patient, of 1.31 million, is the large one."""

STEPS, OLD_TEXTS, TRUTHS = 300, 50, 60


def make(data: Path, out: Path) -> None:
    """Write the models small and middle and the suites' items below `out`/data; a finished model is kept.
    Reads nothing from `data`."""
    recipe = load_recipe()
    texts = base_texts(recipe.world, english("train", seed=recipe.world.seed))
    write_jsonl(out / "data" / "old.jsonl", old_items(texts, recipe.world))
    write_jsonl(out / "data" / "truth.jsonl", [{**row, "raw": True} for row in truths(recipe.world, "test", TRUTHS)])
    for name, size in SIZES.items():
        shape = {**recipe.model, **size, "intermediate_size": 4 * size["hidden_size"]}
        build(out / "data" / name, shape, texts, STEPS)


def old_items(texts: list[str], world: WorldSettings) -> list[Row]:
    """Texts that every size has read or might have: biographies, questions, sums, records, English."""
    chosen = chance(world.seed, "texts to forget").sample(list(dict.fromkeys(texts)), OLD_TEXTS)
    return [{"id": str(number), "text": text} for number, text in enumerate(chosen)]


def build(folder: Path, shape: dict[str, Any], texts: list[str], steps: int) -> Path:
    """Pre-train a model of the given shape on `texts` for `steps` steps, as the shipped base patient was."""
    if (folder / "model.safetensors").is_file():
        return folder
    start = random_model(folder.with_name(f"{folder.name}-start"), shape)
    return read_on(folder, start, texts, load_recipe().base.train.model_copy(update={"max_steps": steps}))


def read_on(folder: Path, start: Path, texts: Sequence[str], settings: TrainSettings) -> Path:
    """The model in `start` after reading `texts`, shipped into `folder`; a finished one is kept.

    Trained by one thread: sums of floats depend on their number, and with them what a reproduction finds.
    """
    if (folder / "model.safetensors").is_file():
        return folder
    import torch

    from mnemos.models.load import Checkpoint
    from mnemos.train.likelihood import train

    documents = Rows(tuple(Example(f"d-{i}", "text", (Turn("text", t),)) for i, t in enumerate(texts)), "base texts")
    plan = Plan(documents, Checkpoint(str(start)), "base", 0, settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = train(plan, folder.with_name(f"{folder.name}-work"))
    finally:
        torch.set_num_threads(threads)
    ship(Path(result.model), folder)
    return folder
