"""`mnemos stream`: agents that improve from a stream of feedback, what they remember, and a server that does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mnemos.cli.options import DOTTED, DryRunOption, Group, JsonOption, OutOption, QuietOption, SetOption, overrides_of
from mnemos.cli.output import print_run, say, say_choices, say_json


class _StudyFirst(Group):
    """`mnemos stream study.yaml` is `mnemos stream run study.yaml`: a word that names no command is a study."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command, and what is left of the words."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_StudyFirst,
    help="Agents that improve from a stream of feedback: studies, memories, and a server with a memory.",
    no_args_is_help=True,
)


@app.command("run", context_settings=DOTTED)
def run_command(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Study file with a stream.")],
    out: OutOption = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
) -> None:
    """Stream a task past every agent of a study, in every order; `run` may be left out."""
    from mnemos.study.commands.stream import lines_of, stream

    overrides = overrides_of(set_, context.args, "stream")
    if dry_run:
        say("\n".join(lines_of(study, overrides)))
        return
    record = stream(study, out=out, overrides=overrides, quiet=quiet)
    assert record.directory is not None
    print_run(record.results, record.directory)


@app.command("agents")
def agents_command(as_json: JsonOption = False) -> None:
    """The agents that an arm can be, with their settings."""
    from mnemos.study.commands.stream import agent_rows

    rows = agent_rows()
    if as_json:
        say_json(rows)
        return
    say_choices(rows, 17)


@app.command("memory")
def memory_command(
    file: Annotated[Path, typer.Argument(help="stream.db of a run, or the file of a server.")],
    search: Annotated[str | None, typer.Option("--search", help="Find by words, the best first.")] = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Only streams whose name holds this.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only memories whose source holds this.")] = None,
    until: Annotated[int | None, typer.Option("--until", help="Only what was held after this step.")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only answers that were not correct.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="List so many at most.")] = 50,
    delete: Annotated[
        str | None, typer.Option("--delete", help="Delete by id, as 3,5,9-12; or all: what is listed.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, say what would be deleted.")] = False,
    export: Annotated[Path | None, typer.Option("--export", help="Write them as JSON Lines for a training.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List, search, delete and export what a stream or a server remembers."""
    from mnemos.study.commands.stream import MemoryFile, memory_lines, parse_ids

    memory = MemoryFile(file)
    chosen = {"stream": stream, "source": source, "until": until, "words": search, "correct": False if wrong else None}
    rows = memory.rows(**chosen)  # type: ignore[arg-type]
    if delete is not None:
        ids = [row["id"] for row in rows] if delete == "all" else parse_ids(delete)
        if not yes:
            say(f"{len(ids):,} memories would be deleted; --yes deletes them")
            return
        say(f"{memory.delete(ids):,} memories deleted")
        return
    if export is not None:
        memory.export(rows, export)
        say(f"{len(rows):,} memories in {export}")
        return
    if as_json:
        say_json(rows[:limit])
        return
    for line in memory_lines(rows[:limit]):
        say(line)
    if len(rows) > limit:
        say(f"{len(rows) - limit:,} more; --limit lists more of them")
    if not rows:
        say("no memories")


@app.command("serve")
def serve_command(
    model: Annotated[str, typer.Option("--model", help="Directory, hub id, or http://host:port/v1#name.")],
    memory: Annotated[Path, typer.Option("--memory", help="The file of memories; made where it is not there.")],
    agent: Annotated[
        str, typer.Option("--agent", help="Who answers; mnemos stream agents lists them.")
    ] = "self-stream-icl",
    set_: SetOption = None,
    encoder: Annotated[
        str, typer.Option("--encoder", help="none, model, or a sentence-transformers directory.")
    ] = "none",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes any.")] = 8321,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="MNEMOS_TOKEN", help="What clients must send; made and printed unless given."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Of an answer.")] = 512,
    max_prompt_tokens: Annotated[int | None, typer.Option("--max-prompt-tokens", min=64, help="Of a prompt.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, max=10, help="0 is greedy.")] = 0.0,
) -> None:
    """An OpenAI-compatible server that answers with a memory, and learns from POST /v1/feedback."""
    from mnemos.study.commands.serve_stream import serve
    from mnemos.study.config import parse_override

    serve(
        model,
        memory,
        agent,
        dict(parse_override(pair) for pair in set_ or []),
        encoder=encoder,
        host=host,
        port=port,
        token=token,
        max_new_tokens=max_new_tokens,
        max_prompt_tokens=max_prompt_tokens,
        temperature=temperature,
        say=say,
    )


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.add_typer(app, name="stream")
