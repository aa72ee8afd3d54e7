"""Where a model is offered: ``http://host:port/v1#model``, or several servers that offer the same one."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from mnemos.core.errors import UsageError

MOST_SERVERS = 256
"""Replicas of one model."""

_BETWEEN = re.compile(r",(?=https?://)")
"""Any other comma is part of an address."""

_CURE = "write http://host:port/v1#model-name, as the server calls it"


def parsed(reference: str) -> tuple[list[str], str]:
    """(addresses, the model's name) of ``http://one/v1,http://two/v1#model``. UsageError where the name is missing, or
    an address holds a password, is none, or stands twice."""
    addresses, _, model = reference.partition("#")
    if not reference.isprintable() or " " in addresses or "?" in addresses:
        raise UsageError(f"model {reference!r}", "is no address: it holds a space, a ? or a control character", _CURE)
    urls = [_address(one, reference) for one in _BETWEEN.split(addresses)]
    if not model:
        raise UsageError(f"model {reference!r}", "names no model's name", _CURE)
    if len(urls) > MOST_SERVERS:
        raise UsageError(f"model {reference[:100]!r}…", f"names more than {MOST_SERVERS} servers", "name fewer")
    twice = next((url for number, url in enumerate(urls) if url in urls[:number]), None)
    if twice:
        raise UsageError(f"model {reference[:1000]!r}", f"names {twice} twice", "name each server once")
    return urls, model


def _address(url: str, reference: str) -> str:
    """One address as requests need it."""
    try:
        parts = urlsplit(url)
        _ = parts.port, (parts.hostname or "").encode("idna")  # both are only checked when they are read
    except ValueError as error:
        raise UsageError(f"model {reference!r}", f"is no address ({error})", _CURE) from None
    if len(parts.hostname or "") > 253:
        raise UsageError(f"model {reference!r}", "is no address: a host's name has at most 253 characters", _CURE)
    if not parts.hostname:
        raise UsageError(f"model {reference!r}", "names no host", _CURE)
    if parts.username or parts.password:
        raise UsageError(
            f"model at {parts.hostname}",
            "has a user name or password in its address, which would be written into the run",
            "put the key into the environment variable OPENAI_API_KEY",
        )
    return url.rstrip("/")
