"""Centres of clusters in an encoder's states: fitted once, kept with what they were fitted on, looked up for ever."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.files import write_json, write_text
from mnemos.core.fingerprint import file_fingerprint
from mnemos.sources.units import MOST, tokens

if TYPE_CHECKING:
    from mnemos.models.units.states import LayerStates

Floats = npt.NDArray[np.float32]
Normalisation = Literal["none", "standard"]

SETTINGS, ARRAYS, TOKENS = "units.json", "centres.safetensors", "tokens.txt"
"""What a directory of units holds: its settings, {centres, mean, scale}, and a token a line for the vocabulary."""
BATCH_FRAMES, ROUNDS, STARTS = 10_000, 100, 20
"""Mini-batch k-means as HuBERT's recipe has it (arXiv:2106.07447): frames of a batch, passes at most, first centres
tried."""
LEAST_SCALE = 1e-12
"""A standard deviation below it is none."""
BLOCK = 4096
"""Frames that are compared with all centres at a time."""


@dataclass(frozen=True, eq=False)
class Units:
    """A clustering. centres: float32[K, H], of normalised states. mean, scale: float32[H]; a state is normalised to
    (state - mean) / scale. layer, layers: of the encoder, which `encoder` names and `encoder_print` identifies.
    normalisation: none, or standard, by mean and deviation of the frames that were fitted."""

    centres: Floats
    mean: Floats
    scale: Floats
    layer: int
    layers: int
    encoder: str
    encoder_print: str
    normalisation: Normalisation = "none"

    @property
    def size(self) -> int:
        """How many units there are."""
        return len(self.centres)

    @property
    def width(self) -> int:
        """Of the encoder's states."""
        return int(self.centres.shape[1])

    def nearest(self, states: Floats) -> list[int]:
        """The unit of each frame of float32[T, H]: the nearest centre, the first of equally near ones. ModelError for
        states of another width, DataError for ones that are not finite."""
        if states.ndim != 2 or states.shape[1] != self.width:
            raise ModelError(
                f"states of width {states.shape[-1]}", f"these units are of width {self.width}", "use their encoder"
            )
        if not np.isfinite(states).all():
            raise DataError("an encoder's states", "are not finite", "check the sound and the encoder")
        out: list[int] = []
        # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, of which the first part is the same for all centres. In float64, so that
        # large values of a few dimensions leave the digits of the others.
        centres = self.centres.astype(np.float64)
        squares = np.square(centres).sum(axis=1)
        for start in range(0, len(states), BLOCK):
            part = (states[start : start + BLOCK].astype(np.float64) - self.mean) / self.scale
            out += (squares - 2 * (part @ centres.T)).argmin(axis=1).tolist()
        return out

    def refuse_other(self, states: LayerStates) -> None:
        """Raise ModelError for states of another encoder, layer or number of layers than those of the fit."""
        if states.layer != self.layer:
            raise ModelError(f"layer {states.layer}", f"these units are of layer {self.layer}", "use that layer")
        if states.layers != self.layers or states.fingerprint != self.encoder_print:
            raise ModelError(
                f"{states.path} ({states.fingerprint})",
                f"is not the encoder that these units were fitted on: {self.encoder} ({self.encoder_print})",
                "name that one (--encoder, where it lies elsewhere now), or fit units on this one",
            )


@dataclass(frozen=True)
class Fitted:
    """What a fit came to. frames: sampled ones. used: units that are nearest to any of them. perplexity: exp of the
    entropy of how often each is; K where all are equally frequent. explained: share of the frames' variance that the
    centres account for."""

    frames: int
    used: int
    perplexity: float
    explained: float

    def as_dict(self) -> dict[str, Any]:
        """As a mapping."""
        return dataclasses.asdict(self)


def fit(
    frames: Floats, clusters: int, states: LayerStates, *, normalisation: Normalisation = "none", seed: int = 0
) -> tuple[Units, Fitted]:
    """Centres of `clusters` clusters of frames float32[N, H], by mini-batch k-means from k-means++ (scikit-learn).

    Settings are those of HuBERT's recipe, which SpeechGPT's units come from: batches of 10,000 frames, 100 passes at
    most, the best of 20 first centres, no cluster begun anew. The same frames and seed give the same centres.
    Raises UsageError for a number that cannot be meant, DataError where there are fewer different frames.
    """
    if normalisation not in ("none", "standard"):
        raise UsageError(f"normalisation = {normalisation!r}", "must be none or standard", "none is usual")
    if not 2 <= clusters <= MOST:
        raise UsageError(f"clusters = {clusters}", f"must be from 2 to {MOST:,}", "SpeechGPT has 1,000")
    if not np.isfinite(frames).all():
        raise DataError("an encoder's states", "are not finite", "check the sounds and the encoder")
    _refuse_alike(frames, clusters)
    mean, scale = np.zeros(frames.shape[1]), np.ones(frames.shape[1])
    if normalisation == "standard":
        mean, scale = frames.mean(axis=0, dtype=np.float64), frames.std(axis=0, dtype=np.float64)
        # A dimension that never moves tells nothing, and is not divided by nothing.
        scale = np.where(scale > LEAST_SCALE, scale, 1.0)
    scaled = ((frames - mean) / scale).astype(np.float32)
    centres = _centres(scaled, clusters, seed)
    made = Units(
        centres, mean.astype(np.float32), scale.astype(np.float32), states.layer, states.layers, states.path,
        states.fingerprint, normalisation,
    )  # fmt: skip
    return made, _described(made, frames, scaled)


def _centres(frames: Floats, clusters: int, seed: int) -> Floats:
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    found = MiniBatchKMeans(
        clusters, init="k-means++", max_iter=ROUNDS, batch_size=BATCH_FRAMES, max_no_improvement=100, tol=0.0,
        n_init=STARTS, init_size=max(3 * clusters, min(BATCH_FRAMES, len(frames))), reassignment_ratio=0.0,
        random_state=seed,
    )  # fmt: skip
    with threadpool_limits(1):  # sums in another order would move centres by a hair
        centres: Floats = found.fit(frames).cluster_centers_.astype(np.float32)
    return centres


def _refuse_alike(frames: Floats, clusters: int) -> None:
    """Raise DataError where there are fewer different frames than clusters: some centres would stand for nothing."""
    different: set[bytes] = set()
    for frame in frames:
        different.add(frame.tobytes())
        if len(different) == clusters:
            return
    bound = f"hold {len(different):,} different states, too few for {clusters:,} clusters"
    raise DataError(f"{len(frames):,} frames", bound, "give other sounds, or ask for fewer clusters")


def _described(units: Units, frames: Floats, scaled: Floats) -> Fitted:
    found = np.array(units.nearest(frames))
    counts = np.bincount(found, minlength=units.size)
    shares = counts[counts > 0] / len(found)
    within = sum(
        float(np.square(scaled[i : i + BLOCK].astype(np.float64) - units.centres[found[i : i + BLOCK]]).sum())
        for i in range(0, len(found), BLOCK)
    )
    variance = float(scaled.var(axis=0, dtype=np.float64).sum()) * len(found)
    perplexity = math.exp(-float((shares * np.log(shares)).sum()))
    return Fitted(len(found), len(shares), perplexity, 1 - within / variance if variance else 1.0)


# on disk ------------------------------------------------------------------------------------


def save(units: Units, folder: Path, fitted: Fitted) -> None:
    """Write the directory that `load` reads, and the tokens that a vocabulary is extended by."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"centres": units.centres, "mean": units.mean, "scale": units.scale}
    save_file(arrays, folder / ARRAYS)
    names = ("layer", "layers", "encoder", "encoder_print", "normalisation")
    settings = {name: getattr(units, name) for name in names}
    shape = {"clusters": units.size, "width": units.width, "centres_print": file_fingerprint(folder / ARRAYS)}
    write_json(folder / SETTINGS, {**settings, **shape, "fitted": fitted.as_dict()})
    write_text(folder / TOKENS, "".join(f"{one}\n" for one in tokens(units.size)))


def load(folder: Path) -> Units:
    """The units that `save` wrote. ModelError for a directory that holds none, or whose parts do not belong together:
    they decide what every sound becomes, so nothing is guessed."""
    from safetensors.numpy import load_file

    settings = _settings(folder / SETTINGS)
    try:
        arrays = load_file(folder / ARRAYS)
    except Exception as error:
        raise _unfit(folder, f"{ARRAYS} cannot be read ({error})") from None
    shapes = {"centres": (settings["clusters"], settings["width"]), "mean": (settings["width"],)}
    shapes["scale"] = shapes["mean"]
    if {name: one.shape for name, one in arrays.items()} != shapes:
        raise _unfit(folder, f"{ARRAYS} does not have the shapes that {SETTINGS} names")
    if any(one.dtype != np.float32 or not np.isfinite(one).all() for one in arrays.values()):
        raise _unfit(folder, f"{ARRAYS} holds what are no finite float32 numbers")
    if not (arrays["scale"] > 0).all() or file_fingerprint(folder / ARRAYS) != settings["centres_print"]:
        raise _unfit(folder, f"{ARRAYS} is not the one that {SETTINGS} was written with")
    names = ("layer", "layers", "encoder", "encoder_print", "normalisation")
    return Units(**arrays, **{name: settings[name] for name in names})


_TYPES = {
    "layer": int, "layers": int, "clusters": int, "width": int, "encoder": str, "encoder_print": str,
    "normalisation": str, "centres_print": str,
}  # fmt: skip


def _settings(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ModelError(
            f"{file.parent}", f"holds no {SETTINGS}", "name a directory that mnemos listen units fit wrote"
        )
    try:
        if file.stat().st_size > 1 << 20:
            raise ValueError("too long")
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unfit(file.parent, f"{SETTINGS} cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise _unfit(file.parent, f"{SETTINGS} is no mapping")
    for name, kind in _TYPES.items():
        if type(found.get(name)) is not kind:
            raise _unfit(file.parent, f"{SETTINGS}: {name} = {found.get(name)!r}"[:200])
    if not (0 <= found["layer"] <= found["layers"] and 2 <= found["clusters"] <= MOST and found["width"] > 0):
        raise _unfit(file.parent, f"{SETTINGS} names numbers that cannot be meant")
    if found["normalisation"] not in ("none", "standard"):
        raise _unfit(file.parent, f"{SETTINGS}: normalisation = {found['normalisation']!r}"[:200])
    return found


def _unfit(folder: Path, why: str) -> ModelError:
    return ModelError(f"{folder}", why, "fit the units again, or copy the directory whole")
