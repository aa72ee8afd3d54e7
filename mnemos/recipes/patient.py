"""The patients: a small base model and its chat version that ship with mnemos.

    python -m mnemos.recipes.patient --out DIR     builds them anew (`make patient`)
    patient("chat")                                where the shipped one lies, its files checked

The builder uses nothing but mnemos' own stages: a tokenizer, continual pre-training on text from
random weights (base), supervised fine-tuning with rehearsal (chat). On the same machine, with the
same library versions, two builds are equal bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.files import read_json, write_json, write_jsonl
from mnemos.core.method import find, validated
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import Settings, TrainSettings
from mnemos.core.shipped import MANIFEST, hashes, verify
from mnemos.core.yaml_text import read_yaml
from mnemos.recipes import patient_suites
from mnemos.recipes.patient_data import WorldSettings, base_texts, chat_rows
from mnemos.recipes.reproductions import preference
from mnemos.recipes.worlds.english import english
from mnemos.sources.mix import Rows

if TYPE_CHECKING:
    from mnemos.train.likelihood import TrainResult

HERE = Path(__file__).parent
RECIPE, PATIENTS = HERE / "patient.yaml", HERE / "patients"

WORDING_ROWS = 300
"""Requests to learn a preferred wording from, as self_rewarding.yaml does."""


class TokenizerSettings(Settings):
    """The tokenizer's size."""

    vocabulary: int = Field(1536, ge=300)
    """Tokens, the 256 bytes and five special ones included."""


class BaseSettings(Settings):
    """Continual pre-training on text."""

    train: TrainSettings
    """How it is trained."""


class ChatSettings(Settings):
    """Supervised fine-tuning of the base model."""

    text_share: float = Field(0.25, ge=0, lt=1)
    """Share of rows that are the base model's text, so that it is not forgotten."""
    train: TrainSettings
    """How it is trained."""


class Recipe(Settings):
    """recipes/patient.yaml."""

    world: WorldSettings
    """What there is to know."""
    tokenizer: TokenizerSettings
    """Tokenizer."""
    model: dict[str, Any]
    """Keys of transformers.LlamaConfig."""
    seed: int = 0
    """Seed of weights and of the order of rows."""
    threads: int = Field(2, ge=1)
    """Threads of torch: another number rounds sums differently."""
    base: BaseSettings
    """First stage."""
    chat: ChatSettings
    """Second stage."""


def load_recipe(path: Path = RECIPE) -> Recipe:
    """Read and check a recipe; UsageError with the nearest known key."""
    recipe: Recipe = validated(Recipe, read_yaml(path), where=path.name)
    return recipe


def patient(name: Literal["base", "chat"], folder: Path = PATIENTS) -> Path:
    """The directory of a shipped patient, after checking the SHA-256 of every file.

    Raises UsageError for an unknown name, ModelError when a file is missing, changed or not
    listed in the manifest.
    """
    if name not in ("base", "chat"):
        raise UsageError(f"patient {name!r}", "is not one of base, chat", "mnemos:patients/chat is the usual one")
    verify(folder, name)
    return folder / name


@dataclass(frozen=True)
class Texts:
    """What the builder reads: base documents, chat rows, and the English of each part."""

    base: list[str]
    chat: list[Example]
    english: Mapping[str, list[str]]


def read_texts(world: WorldSettings, folder: Path | None = None) -> Texts:
    """Everything that the patients learn. folder: Python files to take the English from, the
    running installation's standard library unless given."""
    prose = {part: english(part, folder, seed=world.seed) for part in ("train", "dev", "test")}
    return Texts(base_texts(world, prose["train"]), chat_rows(world, prose["train"]), prose)


def build(out: Path, recipe: Recipe | None = None, *, texts: Texts | None = None, quiet: bool = False) -> Path:
    """Build both patients under `out` (base/, chat/, manifest.json) and return `out`.

    A build that was killed continues from its last checkpoint when it is started again.
    """
    import torch

    recipe = recipe or load_recipe()
    texts = texts or read_texts(recipe.world)
    torch.set_num_threads(recipe.threads)
    started, work = time.monotonic(), out / ".work"
    work.mkdir(parents=True, exist_ok=True)
    start = _random_model(recipe, texts, work / "start")
    base = _train_base(recipe, texts, start, work / "base", quiet)
    ship(Path(base.model), out / "base")
    chat = _train_chat(recipe, texts, out / "base", work, quiet)
    ship(Path(chat.model), out / "chat")
    made = {
        "seconds": round(time.monotonic() - started),
        "stages": {name: _cost(result) for name, result in (("base", base), ("chat", chat))},
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
        "english": hashlib.sha256("\n".join(texts.english["train"]).encode()).hexdigest(),
        "versions": _versions(),
    }
    write_json(out / MANIFEST, {"files": hashes(out, "base", "chat"), "made": made})
    shutil.rmtree(work)
    return out


def _random_model(recipe: Recipe, texts: Texts, folder: Path) -> Path:
    """The tokenizer, and a model of random weights: where pre-training starts."""
    from mnemos.models.fresh import fresh_llama
    from mnemos.recipes.patient_tokenizer import train_tokenizer

    context = int(recipe.model["max_position_embeddings"])
    text = [turn.text for example in texts.chat[::3] for turn in example.turns]
    tokenizer = train_tokenizer(
        [*texts.base[::3], *texts.english["train"], *text], recipe.tokenizer.vocabulary, context
    )
    return fresh_llama(tokenizer, recipe.model, recipe.seed, folder)


def _train_base(recipe: Recipe, texts: Texts, start: Path, out: Path, quiet: bool) -> TrainResult:
    from mnemos.models.load import Checkpoint
    from mnemos.train.likelihood import train

    documents = Rows(tuple(_document(i, text) for i, text in enumerate(texts.base)), "base texts")
    plan = Plan(documents, Checkpoint(str(start)), "base", recipe.seed, recipe.base.train)
    return train(plan, out, quiet=quiet)


def _train_chat(recipe: Recipe, texts: Texts, base: Path, work: Path, quiet: bool) -> TrainResult:
    import mnemos.methods  # noqa: F401  fills the registry
    from mnemos.models.load import Checkpoint
    from mnemos.train.likelihood import train

    old = work / "base_texts.jsonl"
    write_jsonl(old, [{"text": text} for text in texts.base])
    plan = Plan(Rows(tuple(texts.chat), "chat rows"), Checkpoint(str(base)), "chat", recipe.seed, recipe.chat.train)
    plan = find("output_only")(plan)
    plan = find("replay")(plan, data=str(old), share_of_final=recipe.chat.text_share)
    return train(plan, work / "chat", quiet=quiet)


def _document(number: int, text: str) -> Example:
    return Example(f"document-{number}", "text", (Turn("text", text),))


def ship(model: Path, out: Path) -> None:
    """Copy a trained directory to `out` with its weights in bfloat16: half the size; mnemos
    computes in float32 again when it loads them."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for path in sorted(model.iterdir()):
        if path.suffix != ".safetensors":
            shutil.copyfile(path, out / path.name)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(model / "model.safetensors").items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config = read_json(out / "config.json")
    (out / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}, indent=2) + "\n", encoding="utf-8")


def _cost(result: TrainResult) -> dict[str, Any]:
    losses = [[step, round(loss, 4)] for step, loss in result.losses]
    return {
        "seconds": round(result.seconds),
        "steps": result.steps,
        "tokens": result.tokens,
        "parameters": result.total_parameters,
        "losses": losses[:: max(1, len(losses) // 10)],
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }


def write_data(folder: Path, world: WorldSettings, prose: Mapping[str, list[str]]) -> None:
    """Write the suites' items (suites/*.jsonl) and the demo's rows (data/*.jsonl) under `folder`."""
    for name, items in patient_suites.suites(world, prose["test"]).items():
        write_jsonl(folder / "suites" / f"{name.replace(':', '-')}.jsonl", items)
    write_jsonl(folder / "data" / "new_skill.jsonl", patient_suites.new_rows(world))
    write_jsonl(folder / "data" / "new_form.jsonl", patient_suites.new_rows(world, form=True))
    write_jsonl(folder / "data" / "new_text.jsonl", patient_suites.new_texts(world))
    write_jsonl(folder / "data" / "refusals.jsonl", patient_suites.refusal_rows(world))
    write_jsonl(folder / "data" / "old_text.jsonl", patient_suites.old_texts(world, prose["train"]))
    write_jsonl(folder / "data" / "old.jsonl", patient_suites.old_rows(world, prose["train"]))
    write_jsonl(folder / "data" / "wording.jsonl", preference.chats(WORDING_ROWS, world.seed))
    write_jsonl(folder / "data" / "wording_items.jsonl", preference.items(seed=world.seed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: build the patients, or write the suites and the demo's rows anew."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.patient", description="Build mnemos' patients.")
    parser.add_argument("--out", type=Path, help="folder for base/, chat/ and manifest.json")
    parser.add_argument("--data", type=Path, help="folder for suites/*.jsonl and data/*.jsonl")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="recipe file (default: the shipped one)")
    given = parser.parse_args(arguments)
    if given.out is None and given.data is None:
        parser.error("give --out, --data or both")
    recipe = load_recipe(given.recipe)
    texts = read_texts(recipe.world)
    if given.data is not None:
        write_data(given.data, recipe.world, texts.english)
    if given.out is not None:
        build(given.out, recipe, texts=texts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
