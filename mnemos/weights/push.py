"""A directory of a model, with its card, to a repository on a hub of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError, UsageError


def check_hub(name: str) -> None:
    """Raise UsageError unless `name` may be a repository and the hub knows whose token this is.

    What only a write shows, such as a token that may read alone, is told by `push`.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public in its docs

    try:
        validate_repo_id(name)
    except ValueError as error:
        raise UsageError(f"--push-to-hub {name}", f"is no repository: {error}", "give OWNER/NAME") from None
    if constants.HF_HUB_OFFLINE:
        raise UsageError(f"--push-to-hub {name}", "needs a network, and HF_HUB_OFFLINE is set", "unset it")
    _asked(name, lambda api: api.whoami())


def push(folder: Path, name: str) -> str:
    """Upload the directory as it is and return its address. The repository is made private if it is new; files of the
    same names are replaced, others stay. Raises ModelError where the hub refuses: the directory stays where it is."""

    def send(api: Any) -> str:
        api.create_repo(name, private=True, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=str(folder), commit_message="Taught by mnemos").repo_url)

    return str(_asked(name, send, f"; the model is in {folder}"))


def _asked(name: str, question: Any, more: str = "") -> Any:
    """What the hub answers; ModelError with its own words where it refuses or cannot be reached."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        return question(HfApi())
    except LocalTokenNotFoundError:
        raise ModelError(f"hub {name}", f"no token is there{more}", "hf auth login, or set HF_TOKEN") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        cure = "give a token that may write there (HF_TOKEN)" if status in (401, 403) else "try again later"
        raise ModelError(f"hub {name}", f"refuses: {_first(error)}{more}", cure) from None
    except (httpx2.HTTPError, OSError) as error:
        raise ModelError(f"hub {name}", f"cannot be reached: {_first(error)}{more}", "look at the network") from None


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
