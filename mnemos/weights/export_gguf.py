"""A Hugging Face directory as a GGUF file, by the converter of llama.cpp, which is called and not part of mnemos."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mnemos.core.errors import ModelError, UsageError, nearest, printable
from mnemos.weights.files import ADAPTER_CONFIG
from mnemos.weights.gguf_header import is_gguf, read_header

PROGRAM = "convert_hf_to_gguf.py"
TYPES = ("auto", "bf16", "f16", "f32", "q8_0")
"""What the converter writes; fewer bits are made of such a file by llama-quantize."""


def converter(kind: str, model: Path) -> Path:
    """The converter's place: in $LLAMA_CPP, else on the PATH.

    Raises UsageError for a type that it does not write, for an adapter, and where there is no converter.
    """
    if kind not in TYPES:
        raise UsageError(f"--gguf {kind}", "is no type that is written", nearest(kind, TYPES))
    if (model / ADAPTER_CONFIG).is_file():
        raise UsageError(f"--gguf {kind}", "needs a whole model, and this is an adapter",
                         "set train.keep_merged: true and run the study again")  # fmt: skip
    folder = os.environ.get("LLAMA_CPP")
    found = Path(folder) / PROGRAM if folder else Path(shutil.which(PROGRAM) or "")
    if not found.is_file():
        where = f"{found} is not there" if folder else f"needs {PROGRAM} of llama.cpp, which is not on the PATH"
        raise UsageError(f"--gguf {kind}", where, "set LLAMA_CPP to a checkout of llama.cpp, or leave --gguf out")
    return found


def convert(program: Path, model: Path, kind: str) -> Path:
    """Write `model`.gguf beside the directory and read its header; returns it. A file that is there already is refused.

    Raises ModelError with the converter's last words where it fails or writes what is no GGUF file.
    """
    out = model.with_name(f"{model.name}.gguf")
    if out.exists():
        raise UsageError(f"{out}", "is there already", "remove it, or name another place with --out")
    fresh = model.with_name(f".{model.name}.gguf.new")
    command = [str(program)] if os.access(program, os.X_OK) else [sys.executable, str(program)]
    done = subprocess.run(
        [*command, str(model), "--outfile", str(fresh), "--outtype", kind], capture_output=True, check=False
    )
    try:
        if done.returncode or not fresh.is_file():
            last = done.stderr.decode(errors="replace").strip().split("\n")[-1]
            raise ModelError(f"{program.name} on {model}", f"fails with {done.returncode}: {printable(last)[:300]}",
                             "see whether llama.cpp knows this architecture; the model itself is whole")  # fmt: skip
        if not is_gguf(fresh):
            raise ModelError(f"{fresh}", f"is no GGUF file, though {program.name} ended well", "try another version")
        read_header(fresh)
        os.replace(fresh, out)
    finally:
        fresh.unlink(missing_ok=True)
    return out
