"""litellm, which takes the server for OpenAI's own."""

import asyncio
from typing import Any

import pytest

from tests.clients.serving import MANY_PIECES, MESSAGES, TOO_LONG

litellm = pytest.importorskip("litellm")


@pytest.fixture
def request_(server) -> dict[str, Any]:
    """What every request says."""
    return {"model": "openai/nano", "api_base": server.base, "api_key": "none", "messages": MESSAGES, "max_retries": 0}


def joined(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_a_chat_gets_the_librarys_answer(request_, model):
    answer = litellm.completion(**request_, seed=3, temperature=1.0, stop=["sekiz"])
    expected = model.complete(MESSAGES, seed=3, temperature=1.0, stop="sekiz")
    assert answer.choices[0].message.content == expected.text
    assert answer.usage.completion_tokens == expected.completion_tokens


def test_a_stream_adds_up(request_, model):
    options = {"stream": True, "stream_options": {"include_usage": True}, "extra_body": MANY_PIECES}
    chunks = list(litellm.completion(**request_, **options))
    expected = model.complete(MESSAGES, **MANY_PIECES)
    assert joined(chunks) == expected.text
    assert chunks[-1].usage.completion_tokens == expected.completion_tokens
    assert litellm.stream_chunk_builder(chunks).choices[0].message.content == expected.text


def test_asynchronous_calls_do_the_same(request_, model):
    async def ask() -> tuple[Any, list[Any]]:
        whole, stream = await asyncio.gather(
            litellm.acompletion(**request_), litellm.acompletion(**request_, stream=True)
        )
        return whole, [chunk async for chunk in stream]

    whole, chunks = asyncio.run(ask())
    assert whole.choices[0].message.content == joined(chunks) == model.chat(MESSAGES)


def test_what_the_model_cannot_do_is_refused_by_name(request_):
    with pytest.raises(litellm.BadRequestError, match=r"top_p=0.5: only 1 is supported"):
        litellm.completion(**request_, top_p=0.5)


def test_what_means_nothing_is_ignored(request_, model):
    answer = litellm.completion(**request_, user="someone", parallel_tool_calls=False, metadata={"a": "b"})
    assert answer.choices[0].message.content == model.chat(MESSAGES)


def test_a_text_that_is_too_long_is_known_as_such(request_):
    with pytest.raises(litellm.ContextWindowExceededError, match="the model's context is 256"):
        litellm.completion(**{**request_, "messages": TOO_LONG})


def test_errors_become_its_own(request_):
    with pytest.raises(litellm.NotFoundError, match="no model 'gpt-4o'"):
        litellm.completion(**{**request_, "model": "openai/gpt-4o"})
