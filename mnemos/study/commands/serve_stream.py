"""`mnemos stream serve`: load a model and a file of memories, and serve until stopped."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.places import author_location, resolved
from mnemos.models.load import handle
from mnemos.stream import encoders
from mnemos.stream.agents import make, row
from mnemos.stream.memory import claim_encoder
from mnemos.stream.models import Models
from mnemos.stream.prompts import load
from mnemos.stream.serve import make_server, one_server
from mnemos.stream.service import Service
from mnemos.stream.store import Store
from mnemos.study.stopping import terminable


def serve(
    model: str,
    memory: Path,
    agent: str,
    settings: Mapping[str, Any],
    *,
    encoder: str,
    host: str,
    port: int,
    token: str | None,
    max_new_tokens: int,
    max_prompt_tokens: int | None,
    temperature: float,
    say: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises UsageError for agents that need gold answers, and for a token that is short
    or that no header can carry."""
    found = row(agent)
    if found.sees_gold or found.control or settings.get("sees_gold") or settings.get("stores_gold"):
        raise UsageError(f"--agent {agent}", "is a control, and needs what only a study has", "name another agent")
    if token is not None and len(token) < 8:
        raise UsageError("--token", "has fewer than 8 characters", "give a longer one, or none, and one is made")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        # Clients write other letters into a header each in their own way, or not at all.
        raise UsageError("--token", "has a space, or a letter beside those of ASCII", "write it without either")
    made = make(agent, load(), settings)
    here = Path.cwd()
    with one_server(memory), terminable():
        loaded = handle(author_location(model, here)).load()
        place = encoder if encoder in ("none", "model") else author_location(encoder, here, "--encoder")
        vectors = encoders.make(place, loaded)
        store = Store(resolved(memory))
        if vectors is not None:
            claim_encoder(store, vectors.fingerprint, vectors.width)
        models = Models([loaded], max_new_tokens=max_new_tokens, temperature=temperature, budget=max_prompt_tokens)
        service = Service(store, made, models, vectors, "similar" if vectors is not None else "lexical")
        shown = token or secrets.token_urlsafe(24)
        server = make_server(service, host=host, port=port, token=shown, model=loaded.name)
        say(f"model     {loaded.name}, agent {agent}, {len(service.memory):,} memories in {memory}")
        say(f"address   http://{host}:{server.server_port}/v1")
        if token is None:
            say(f"token     {shown}")
        try:
            server.serve_forever(poll_interval=0.1)
        finally:
            server.server_close()
            service.close()
