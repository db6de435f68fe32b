"""langchain-openai: ChatOpenAI."""

import asyncio
import math
from typing import Any

import pytest

from tests.clients.serving import MANY_PIECES, QUESTION, TOO_LONG

langchain = pytest.importorskip("langchain_openai")
openai = pytest.importorskip("openai")


@pytest.fixture
def chat(server) -> Any:
    """Make a chat model with options."""
    return lambda **options: langchain.ChatOpenAI(model="nano", base_url=server.base, api_key="none", **options)


def test_a_chat_gets_the_librarys_answer_and_the_usage(chat, model):
    answer, expected = chat(seed=3, temperature=1.0).invoke(QUESTION), model.complete(QUESTION, seed=3, temperature=1.0)
    assert answer.content == expected.text
    assert answer.response_metadata["finish_reason"] == expected.finish_reason
    assert answer.usage_metadata["input_tokens"] == expected.prompt_tokens
    assert answer.usage_metadata["output_tokens"] == expected.completion_tokens


def test_messages_of_several_roles_are_read(chat, model):
    given = [
        ("system", "Kısa cevap ver."),
        ("human", "On iki artı beş kaç eder?"),
        ("ai", "on yedi"),
        ("human", QUESTION),
    ]
    roles = {"human": "user", "ai": "assistant", "system": "system"}
    messages = [{"role": roles[role], "content": content} for role, content in given]
    assert chat(temperature=0).invoke(given).content == model.chat(messages, temperature=0)


def test_a_stream_adds_up(chat, model):
    expected, whole = model.complete(QUESTION, **MANY_PIECES), None
    chunks = list(chat(stream_usage=True, extra_body=MANY_PIECES).stream(QUESTION))
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    assert len([chunk for chunk in chunks if chunk.content]) > 3
    assert whole.content == expected.text
    assert whole.usage_metadata["output_tokens"] == expected.completion_tokens


def test_a_batch_is_answered_in_order(chat, model):
    questions = [QUESTION, "zıddını yaz: sığ", "hangi ülkenin başkenti Viyana?"]
    assert [answer.content for answer in chat().batch(questions)] == model_answers(model, questions)


def test_asynchronous_calls_do_the_same(chat, model):
    async def ask() -> tuple[str, str]:
        whole = await chat().ainvoke(QUESTION)
        return whole.content, "".join([chunk.content async for chunk in chat().astream(QUESTION)])

    assert asyncio.run(ask()) == (model.chat(messages(QUESTION)),) * 2


def test_stop_strings_end_the_answer(chat, model):
    assert chat().invoke(QUESTION, stop=["sekiz"]).content == model.generate(QUESTION, stop="sekiz")


def test_log_probabilities_are_there(chat, model):
    answer = chat(logprobs=True, top_logprobs=2).invoke(QUESTION)
    tokens = answer.response_metadata["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens).strip() == answer.content
    assert math.exp(min(token["logprob"] for token in tokens)) == pytest.approx(
        model.complete(QUESTION).least_confidence
    )


def test_a_text_that_is_too_long_is_refused(chat):
    with pytest.raises(openai.BadRequestError) as caught:
        chat().invoke(TOO_LONG)
    assert caught.value.code == "context_length_exceeded"


def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def model_answers(model: Any, questions: list[str]) -> list[str]:
    return [model.chat(messages(question)) for question in questions]
