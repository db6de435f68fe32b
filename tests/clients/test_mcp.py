"""The example of an MCP server, asked by the client of the package `mcp`, over standard streams."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

mcp = pytest.importorskip("mcp")

SERVER = Path(__file__).parents[2] / "examples" / "mcp" / "server.py"
SENTENCE = "Türkiye'nin başkenti <mask><mask> şehridir."


@pytest.fixture(scope="module")
def answers() -> list[Any]:
    """What one client is told, call after call: the tools, then the results."""

    async def ask() -> list[Any]:
        async with mcp.Client(mcp.StdioServerParameters(command=sys.executable, args=[str(SERVER)])) as client:
            calls = [
                ("generate", {"prompt": "On iki artı beş kaç eder?", "preset": "fast", "seed": 3}),
                ("fill", {"text": SENTENCE}),
                ("generate", {"prompt": "uzun " * 400}),
                ("generate", {"prompt": "a", "preset": "quick"}),
            ]
            return [await client.list_tools(), *[await client.call_tool(name, given) for name, given in calls]]

    return asyncio.run(ask())


def test_the_tools_are_described(answers):
    tools = {tool.name: tool.input_schema["properties"] for tool in answers[0].tools}
    assert {name: set(properties) for name, properties in tools.items()} == {
        "generate": {"prompt", "preset", "seed"},
        "fill": {"text", "seed"},
    }
    assert all(properties["seed"]["description"] for properties in tools.values())


def test_answers_are_the_librarys(answers, model):
    texts = [result.content[0].text for result in answers[1:3]]
    assert texts == [model.generate("On iki artı beş kaç eder?", preset="fast", seed=3), model.fill(SENTENCE)]


def test_errors_are_told(answers):
    too_long, wrong = answers[3:]
    assert too_long.is_error
    assert wrong.is_error
    assert "the model's context is 256" in too_long.content[0].text
    assert "'short', 'long' or 'fast'" in wrong.content[0].text
