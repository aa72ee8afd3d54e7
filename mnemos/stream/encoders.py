"""What turns a question into a vector: a sentence-transformers directory, or the model's own hidden states.

Both through transformers, without the package sentence-transformers: of its directories are read the weights, the
kind of pooling and the longest text. Vectors have length 1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import ModelError
from mnemos.core.files import read_json
from mnemos.core.fingerprint import directory_fingerprint, fingerprint

if TYPE_CHECKING:
    from mnemos.models.language import LocalModel

Floats = npt.NDArray[np.float32]
BATCH = 64
"""Texts in one forward pass."""
MOST_CHARS = 20_000
"""Characters of a text that are read; tokenizers take time that grows with all of it."""
MOST_KEPT = 50_000
"""Vectors that are kept for texts that come again."""


class Encoder(Protocol):
    """fingerprint: changes when its vectors could; a file of memories holds vectors of one. width: numbers a vector."""

    fingerprint: str
    width: int

    def encode(self, texts: Sequence[str]) -> Floats:
        """float32[n, width], rows of length 1."""
        ...


class DirectoryEncoder:
    """A directory as sentence-transformers saves it, or any encoder of transformers (mean pooling)."""

    def __init__(self, path: str) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from mnemos.weights.checkpoint import explained

        folder = Path(path)
        if not (folder / "config.json").is_file():
            raise ModelError(f"{path}", "holds no config.json", "give a sentence-transformers directory")
        self.pooling, most = _pooling(folder)
        with explained(folder, "the encoder cannot be loaded", "check that weights and config.json belong together"):
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32).eval()
        bound = getattr(self.model.config, "max_position_embeddings", 512)
        self.most_tokens = min(most or bound, bound)
        self.width = int(self.model.config.hidden_size)
        content = directory_fingerprint(folder, suffixes=(".json", ".safetensors", ".txt", ".model"))
        self.fingerprint = fingerprint(["directory", content, self.pooling, self.most_tokens])

    def encode(self, texts: Sequence[str]) -> Floats:
        """float32[n, width]."""
        import torch

        out = np.empty((len(texts), self.width), np.float32)
        # Texts of one length beside each other: a batch is padded to its longest.
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        for start in range(0, len(texts), BATCH):
            places = order[start : start + BATCH]
            some = [texts[at][:MOST_CHARS] for at in places]
            tokens = self.tokenizer(
                some, padding=True, truncation=True, max_length=self.most_tokens, return_tensors="pt"
            )
            with torch.inference_mode():
                states = self.model(**tokens).last_hidden_state
            if self.pooling == "cls":
                pooled = states[:, 0]
            else:
                mask = tokens["attention_mask"][..., None].to(states.dtype)
                pooled = (states * mask).sum(1) / mask.sum(1).clamp_min(1)
            out[places] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return out


MODULES = ("Transformer", "Pooling", "Normalize")
"""Of what a directory of sentence-transformers may be made to be read here; vectors are of length 1 in any case."""


def _pooling(folder: Path) -> tuple[str, int | None]:
    """mean or cls, and the longest text in tokens, as the directory says. ModelError for another kind of pooling, for
    two kinds beside each other, and for a directory with further layers, such as 2_Dense."""
    for name in _modules(folder):
        if name not in MODULES:
            raise ModelError(f"{folder}", f"has a module {name}, whose weights would be left out", "use an encoder "
                             f"made of {', '.join(MODULES)} alone")  # fmt: skip
    most = None
    settings = folder / "sentence_bert_config.json"
    if settings.is_file():
        most = read_json(settings).get("max_seq_length")
    for path in sorted(folder.glob("*_Pooling/config.json")):
        # Several kinds at once are vectors one behind the other.
        kinds = [key for key, value in read_json(path).items() if key.startswith("pooling_mode_") and value]
        if kinds not in (["pooling_mode_cls_token"], ["pooling_mode_mean_tokens"]):
            raise ModelError(f"{path}", "asks for a pooling other than mean or cls", "use another encoder")
        return "cls" if "cls" in kinds[0] else "mean", most
    return "mean", most


def _modules(folder: Path) -> list[str]:
    """Kinds of the modules that the directory lists, else those that its folders are named by: 1_Pooling is one."""
    listed = folder / "modules.json"
    if listed.is_file():
        return [str(one.get("type", "")).rpartition(".")[2] for one in read_json(listed)]
    return [path.parent.name.partition("_")[2] for path in sorted(folder.glob("[0-9]*_*/config.json"))]


class ModelEncoder:
    """Mean over the tokens of a language model's last hidden states, its own head left out. Trap: such vectors lie
    close together, and find less than those of an encoder that was trained for it."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self.width = int(model.model.get_input_embeddings().weight.shape[1])
        self.fingerprint = fingerprint(["hidden states", model.fingerprint])
        self.most_tokens = 512

    def encode(self, texts: Sequence[str]) -> Floats:
        """float32[n, width]."""
        import torch

        tokenizer, inner = self.model.tokenizer, self.model.model
        inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        rows = [tokenizer(text[:MOST_CHARS])["input_ids"][: self.most_tokens] or [0] for text in texts]
        out = np.empty((len(rows), self.width), np.float32)
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            width = max(map(len, some))
            # Padded on the right: with causal attention nothing that counts sees it.
            ids = torch.tensor([row + [0] * (width - len(row)) for row in some], device=self.model.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in some], device=self.model.device)
            with torch.inference_mode():
                states = inner.base_model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            out[start : start + len(some)] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return out


class Kept:
    """An encoder whose vectors of texts that come again are kept: each question comes in every arm and order."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.fingerprint, self.width = encoder, encoder.fingerprint, encoder.width
        self._kept: OrderedDict[str, Floats] = OrderedDict()

    def encode(self, texts: Sequence[str]) -> Floats:
        """float32[n, width]."""
        new = list(dict.fromkeys(text for text in texts if text not in self._kept))
        found = dict(zip(new, self.encoder.encode(new), strict=True)) if new else {}
        rows = [found[text] if text in found else self._kept[text] for text in texts]
        self._kept.update(found)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return np.stack(rows) if rows else np.empty((0, self.width), np.float32)


def make(name: str, model: Any) -> Kept | None:
    """The encoder that a study names: none, model (the answering model's hidden states), or a directory."""
    if name == "none":
        return None
    if name == "model":
        if not hasattr(model, "tokenizer"):
            raise ModelError(
                "memory.encoder = model", "needs the weights of the model, not a server", "name a directory"
            )
        return Kept(ModelEncoder(model))
    return Kept(DirectoryEncoder(name))
