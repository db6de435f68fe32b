"""A server of the Model Context Protocol over standard streams: Turkish text, answered and filled in by DiffutronLM."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from diffutron_ort import Diffutron, __version__
from diffutron_ort.config import PRESETS
from diffutron_ort.errors import DiffutronError

server = MCPServer("diffutron", version=__version__, instructions="Writes and completes short texts in Turkish.")

Preset = Literal[tuple(PRESETS)]  # type: ignore[valid-type] - made from the table
Seed = Annotated[int, Field(description="Another seed, another answer, where the temperature is not 0.")]


@cache
def model() -> Diffutron:
    """Return the model that `DIFFUTRON_MODEL` names, or the embedded one."""
    return Diffutron.from_pretrained(os.environ.get("DIFFUTRON_MODEL") or None)


@contextmanager
def told() -> Iterator[None]:
    """Tell the caller why a request cannot be carried out."""
    try:
        yield
    except DiffutronError as error:
        raise ToolError(str(error)) from error


@server.tool()
def generate(
    prompt: Annotated[str, Field(description="A question or an instruction in Turkish.")],
    preset: Annotated[Preset | None, Field(description="Options by one name; fast is approximate.")] = None,
    seed: Seed = 0,
) -> str:
    """Answer a question or an instruction in Turkish."""
    with told():
        return model().generate(prompt, preset=preset, seed=seed)


@server.tool()
def fill(
    text: Annotated[str, Field(description="With <mask> for each missing piece of a word; most words are one or two.")],
    seed: Seed = 0,
) -> str:
    """Fill in what is missing in a Turkish text; everything else stays as it is."""
    with told():
        return model().fill(text, seed=seed)


if __name__ == "__main__":
    server.run("stdio")
