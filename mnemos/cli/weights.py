"""`mnemos merge` and `mnemos vector`: arithmetic on checkpoints from the command line."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from mnemos.cli.options import Group
from mnemos.cli.output import say, warn
from mnemos.core.errors import UsageError

if TYPE_CHECKING:
    from mnemos.weights.merge import Merged


class _Expressions(TyperCommand):
    """A command whose arguments may begin with a minus sign: "-a + b" is an expression, no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put a space before them, which expressions pass over. None of these commands has an option of one hyphen."""
        valued = {name for one in self.params if not getattr(one, "is_flag", True) for name in one.opts}
        taken, out = False, []
        for argument in args:
            bare = argument.startswith("-") and not argument.startswith("--") and len(argument) > 1
            out.append(f" {argument}" if bare and not taken else argument)
            taken = argument in valued
        return super().parse_args(ctx, out)


vector_app = typer.Typer(
    cls=Group, help="Differences between checkpoints: save one, look at several.", no_args_is_help=True
)


class Keep(StrEnum):
    """Which points of a sweep stay on disk."""

    best = "best"
    all = "all"


class Embeddings(StrEnum):
    """What happens where vocabularies differ."""

    same = "same"
    align = "align"
    skip = "skip"


ExpressionArgument = Annotated[
    str, typer.Argument(help='Such as "cp + 0.5*(chat - base)"; operators: docs/merging.md.')
]
NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="NAME=DIR...", help="What each name stands for.")]
OutOption = Annotated[Path, typer.Option("--out", help="The directory to write; must not be there, or be empty.")]
NumberOption = Annotated[
    list[str] | None, typer.Option("--let", metavar="NAME=NUMBER", help="A named number; repeatable.")
]
ShardOption = Annotated[str, typer.Option("--shard-size", help="Largest file, such as 5GB.")]
DtypeOption = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16, float16 or float64.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="Tensors at a time.")]


def merge_command(
    expression: ExpressionArgument,
    names: NamesArgument = None,
    out: OutOption = Path("merged"),
    set_: NumberOption = None,
    sweep: Annotated[list[str] | None, typer.Option("--sweep", metavar="NAME=FROM:TO:STEP", help="Try values.")] = None,
    suites: Annotated[list[str] | None, typer.Option("--suites", "--suite", help="Measure on these suites.")] = None,
    new: Annotated[list[str] | None, typer.Option("--new", help="A suite that measures what was gained.")] = None,
    keep: Annotated[Keep, typer.Option("--keep", help="Which points of a sweep stay on disk.")] = Keep.best,
    dtype: DtypeOption = None,
    shard_size: ShardOption = "5GB",
    config: Annotated[
        str | None, typer.Option("--config", metavar="NAME", help="Whose configuration and head.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="NAME", help="Whose token ids; or union.")
    ] = None,
    template: Annotated[str | None, typer.Option("--template", metavar="NAME", help="Whose chat template.")] = None,
    embeddings: Annotated[
        Embeddings, typer.Option("--embeddings", help="Where vocabularies differ.")
    ] = Embeddings.same,
    allow_nonfinite: Annotated[bool, typer.Option("--allow-nonfinite", help="Write NaN and infinity.")] = False,
    threads: ThreadsOption = None,
) -> None:
    """Compute one expression over checkpoints, without loading any, and write a complete model."""
    from mnemos.study.commands import merge as merging
    from mnemos.weights.merge import How

    axes = [merging.axis(text) for text in sweep or []]
    numbers = {**_numbers(set_ or []), **{name: values[0] for name, values in axes}}
    more = [name for name in (tokenizer, template, config) if name is not None]
    bound = merging.bind(expression, names or [], numbers, more=more)
    how = How(dtype, _bytes(shard_size), embeddings.value, tokenizer, template, allow_nonfinite, threads)
    made = bound.expression
    is_soup = any(call.operator == "soup" for call in made.calls)
    if (axes or is_soup) and not suites:
        raise UsageError("--suites", "is missing: a sweep and a soup are chosen by measuring", "--suites suite.yaml")
    trunk = config or (None if is_soup else merging.trunk_of(made, bound.places))
    if trunk is not None and trunk not in bound.places:
        raise UsageError(f"--config {trunk}", "is no checkpoint here", "name one of NAME=DIR")
    if is_soup:
        say(f"{merging.soup(bound, out, suites or [], how=how, trunk=trunk)}\n{out}")
    elif axes:
        rows = merging.sweep(bound, axes, out, suites or [], how=how, keep=keep.value, trunk=trunk)
        say("\n".join(str(row["path"]) for row in rows if row["path"]))
    else:
        _tell(merging.merge(bound, out, how=how, trunk=trunk), out)
        if suites:
            say(merging.measured_table(bound, out, suites, new or [], str(trunk)))


@vector_app.command("save", cls=_Expressions)
def vector_save_command(
    expression: ExpressionArgument,
    names: NamesArgument = None,
    out: OutOption = Path("vector"),
    set_: NumberOption = None,
    dtype: DtypeOption = "float32",
    shard_size: ShardOption = "5GB",
    threads: ThreadsOption = None,
) -> None:
    """Write a difference such as "chat - base" as a directory that expressions can name."""
    from mnemos.study.commands import merge as merging
    from mnemos.weights.merge import How

    bound = merging.bind(expression, names or [], _numbers(set_ or []))
    how = How(dtype, _bytes(shard_size), threads=threads, vector=True)
    _tell(merging.merge(bound, out, how=how), out)


@vector_app.command("show", cls=_Expressions)
def vector_show_command(
    words: Annotated[list[str], typer.Argument(metavar='"A - B" "C - B" … NAME=DIR…', help="Differences and names.")],
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with a heat map.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Also write the heat map.")] = None,
    set_: NumberOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Norms, cosines and sign conflicts between differences, layer by layer."""
    from mnemos.core.files import write_text
    from mnemos.report import plot_vectors
    from mnemos.study.commands import merge as merging
    from mnemos.weights.expression import parse
    from mnemos.weights.vectors import compare_vectors

    given = [word for word in words if re.match(r"\w+=[^=]", word)]
    texts = [word for word in words if word not in given]
    if not texts:
        raise UsageError("mnemos vector show", "names no difference", 'for example "chat - base" chat=DIR base=DIR')
    numbers = _numbers(set_ or [])
    every = merging.bind(f"mean({', '.join(texts)})", given, numbers)
    found = compare_vectors([parse(text, numbers) for text in texts], every.places, threads=threads)
    say(plot_vectors.table(found))
    if html is not None:
        write_text(html, plot_vectors.page(found))
    if svg is not None:
        write_text(svg, plot_vectors.heat_map(found))


def register(app: typer.Typer) -> None:
    """Add both to the command line."""
    app.command("merge", cls=_Expressions)(merge_command)
    app.add_typer(vector_app, name="vector")


def _tell(merged: Merged, out: Path) -> None:
    for line in merged.warnings:
        warn(f"mnemos: warning: {line}")
    from mnemos.weights.card import kept_lines

    for line in (*merged.notes, *kept_lines(merged)):
        say(line)
    if merged.resumed:
        say(f"continued: {merged.resumed} files were there already")
    say(f"{merged.expression}\n{out}")


def _numbers(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise UsageError(f"--let {pair}", "must be NAME=NUMBER", "for example --let rho=0.5") from None
        if not name.isidentifier() or number != number or number in (float("inf"), float("-inf")) or name in found:
            raise UsageError(f"--let {pair}", "must be a name, once, and a finite number", "for example --let rho=0.5")
        found[name] = number
    return found


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9.]+)\s*([KMGT]?B?)", text.strip(), re.IGNORECASE)
    factor = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
    try:
        size = int(float(match[1]) * 1000 ** factor[match[2].upper().removesuffix("B")]) if match else 0
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise UsageError(f"--shard-size {text}", "must be a size in bytes", "for example 5GB or 500MB")
    return size
