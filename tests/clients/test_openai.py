"""OpenAI's own client, blocking and asynchronous."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Annotated, Any, Literal

import pytest

from diffutron_ort.completion import Completion
from diffutron_ort.sampler.engine import run
from tests.clients.serving import MANY_PIECES, MESSAGES, QUESTION, TOO_LONG, Server, serving, until

openai = pytest.importorskip("openai")

CHAT, COMPLETE = "chat.completions.create", "completions.create"
Ask = Callable[..., Any]


def blocking(base: str, call: str, *arguments: Any, key: str = "none", retries: int = 0, **request: Any) -> Any:
    """Call OpenAI's blocking client; return an answer, or the list of a stream's chunks."""
    with openai.OpenAI(base_url=base, api_key=key, max_retries=retries) as client:
        answer = attrgetter(call)(client)(*arguments, **request)
        return list(answer) if request.get("stream") else answer


def asynchronous(base: str, call: str, *arguments: Any, key: str = "none", retries: int = 0, **request: Any) -> Any:
    """Do the same with its asynchronous client."""

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=retries) as client:
            answer = await attrgetter(call)(client)(*arguments, **request)
            return [chunk async for chunk in answer] if request.get("stream") else answer

    return asyncio.run(ask())


@pytest.fixture(params=[blocking, asynchronous])
def call(request: pytest.FixtureRequest) -> Ask:
    """A call of either client."""
    return request.param


@pytest.fixture
def ask(call: Ask, server) -> Ask:
    """A call of either client to the server that all tests share."""
    return lambda name, *arguments, **request: call(server.base, name, *arguments, **request)


def joined(chunks: list[Any], index: int = 0) -> str:
    """Return what the chunks of a choice add up to."""
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join((choice.delta.content if hasattr(choice, "delta") else choice.text) or "" for choice in choices)


def ends(chunks: list[Any]) -> list[Any]:
    """Return why the choices ended, in that order."""
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


# Chats. Each case is what OpenAI's client is given, and the library's options.

CASES = {
    "nothing": ({}, {}),
    "a seed": ({"seed": 7, "temperature": 1.0}, {"seed": 7, "temperature": 1.0}),
    "a stop string": ({"stop": "sekiz"}, {"stop": "sekiz"}),
    "stop strings": ({"stop": ["beş", ", se"]}, {"stop": ("beş", ", se")}),
    "a length": ({"max_tokens": 2}, {"max_new_tokens": 2}),
    "a length by its newer name": ({"max_completion_tokens": 3}, {"max_new_tokens": 3}),
    "our options": ({"extra_body": MANY_PIECES}, MANY_PIECES),
    "a preset": ({"extra_body": {"preset": "fast", "steps": 9}}, {"preset": "fast", "steps": 9}),
    "neutral values": ({"top_p": 1, "presence_penalty": 0, "response_format": {"type": "text"}}, {}),
}


@pytest.mark.parametrize(("request_", "options"), CASES.values(), ids=CASES)
def test_a_chat_gets_the_librarys_answer(ask, model, request_, options):
    answer, expected = ask(CHAT, model="nano", messages=MESSAGES, **request_), model.complete(QUESTION, **options)
    [choice] = answer.choices
    assert choice.message.content == expected.text == model.chat(MESSAGES, **options)
    assert choice.finish_reason == expected.finish_reason
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        expected.prompt_tokens,
        expected.completion_tokens,
    )


def test_an_answer_is_parsed_into_a_class(ask):
    pydantic = pytest.importorskip("pydantic")

    class Answer(pydantic.BaseModel):
        """What the client makes a schema of."""

        answer: Literal["on altı", "on yedi"]
        number: int
        unit: Annotated[str, pydantic.Field(min_length=2, max_length=9)]
        rank: Annotated[int, pydantic.Field(ge=1, le=5)]
        is_sure: bool

    found = ask("chat.completions.parse", model="nano", messages=MESSAGES, response_format=Answer)
    assert isinstance(found.choices[0].message.parsed, Answer)
    assert found.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(("request_", "options"), CASES.values(), ids=CASES)
def test_the_chunks_of_a_stream_add_up_to_the_answer(ask, model, request_, options):
    chunks, expected = (
        ask(CHAT, model="nano", messages=MESSAGES, stream=True, **request_),
        model.complete(QUESTION, **options),
    )
    assert joined(chunks) == expected.text
    assert ends(chunks) == [expected.finish_reason]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert not any(chunk.usage for chunk in chunks)


def test_a_stream_comes_in_pieces_and_tells_its_usage_if_asked(ask, model):
    request = {"stream_options": {"include_usage": True}, "extra_body": MANY_PIECES}
    *chunks, last = ask(CHAT, model="nano", messages=MESSAGES, stream=True, **request)
    expected = model.complete(QUESTION, **MANY_PIECES)
    assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) > 3
    assert last.choices == []
    assert last.usage.completion_tokens == expected.completion_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_each_choice_has_a_seed_of_its_own(ask, model, stream):
    request = {"n": 3, "seed": 5, "temperature": 1.5, "extra_body": MANY_PIECES}
    answer = ask(CHAT, model="nano", messages=MESSAGES, stream=stream, **request)
    found = [joined(answer, i) if stream else answer.choices[i].message.content for i in range(3)]
    assert found == [model.chat(MESSAGES, seed=5 + i, temperature=1.5, **MANY_PIECES) for i in range(3)]
    assert len(set(found)) == 3


def test_without_a_seed_the_answer_is_the_same_every_time(ask, model):
    texts = {ask(CHAT, model="nano", messages=MESSAGES, temperature=2).choices[0].message.content for _ in range(3)}
    assert texts == {model.chat(MESSAGES, temperature=2, seed=0)}


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_are_those_of_the_commits(ask, model, stream):
    answer = ask(CHAT, model="nano", messages=MESSAGES, stream=stream, logprobs=True, top_logprobs=3)
    found = [choice.logprobs for chunk in (answer if stream else [answer]) for choice in chunk.choices]
    [tokens] = [logprobs.content for logprobs in found if logprobs]
    assert not stream or found[-1].content is tokens  # of the chunk that says why the choice ended
    expected = model.complete(QUESTION)
    assert "".join(token.token for token in tokens).strip() == expected.text
    assert math.fsum(math.exp(token.logprob) for token in tokens) / len(tokens) == pytest.approx(
        expected.mean_confidence
    )
    assert min(math.exp(token.logprob) for token in tokens) == pytest.approx(expected.least_confidence)
    for token in tokens:
        best, *others = token.top_logprobs
        assert (best.token, best.logprob) == (token.token, pytest.approx(token.logprob))  # at temperature 0
        assert len(others) == 2
        assert bytes(token.bytes).decode() == token.token


def test_the_clients_own_helper_collects_a_stream(server, model):
    options = {**MANY_PIECES, "stop": ["nisan"]}  # the helper takes an answer that is cut by its length for an error
    with openai.OpenAI(base_url=server.base, api_key="none") as client:
        request = {"model": "nano", "messages": MESSAGES, "logprobs": True, "extra_body": options}
        with client.chat.completions.stream(stream_options={"include_usage": True}, **request) as stream:
            pieces = [event.delta for event in stream if event.type == "content.delta"]
        answer = stream.get_final_completion()
    assert "".join(pieces) == answer.choices[0].message.content == model.chat(MESSAGES, **options)
    assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens


def test_a_diffusing_stream_replaces_its_text_and_shows_the_canvas(ask, model):
    options = {"max_new_tokens": 32, "block_length": 16}
    chunks = ask(CHAT, model="nano", messages=MESSAGES, stream=True, extra_body={"diffusing": True, **options})
    steps = list(model.chat(MESSAGES, stream=True, **options))
    canvases = [chunk.model_extra["diffutron"] for chunk in chunks]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", *(step.text for step in steps)]
    assert [canvas["masks"] for canvas in canvases] == [32, *(step.masks_left for step in steps)]
    assert [canvas["step"] for canvas in canvases] == list(range(len(steps) + 1))
    places = [place for canvas in canvases for place in canvas["positions"]]
    assert len(set(places)) == len(places) == 32 - steps[-1].masks_left


def test_fields_without_a_meaning_are_ignored_and_said(ask, model):
    request = {"metadata": {"a": "b"}, "store": True, "user": "someone", "parallel_tool_calls": False}
    answer = ask("chat.completions.with_raw_response.create", model="nano", messages=MESSAGES, **request)
    assert answer.headers["x-ignored"] == "metadata, parallel_tool_calls, store"
    assert answer.parse().choices[0].message.content == model.chat(MESSAGES)


def test_parts_and_earlier_messages_are_read(ask, model):
    messages = [
        {"role": "system", "content": "Kısa cevap ver."},
        {"role": "user", "content": "On iki artı beş kaç eder?"},
        {"role": "assistant", "content": "on yedi"},
        {"role": "user", "content": QUESTION},
    ]
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]
    expected = model.chat(messages)
    for given in (messages, parts, [{**messages[0], "role": "developer"}, *messages[1:]]):
        assert ask(CHAT, model="nano", messages=given).choices[0].message.content == expected


# Completions of raw text.


@pytest.mark.parametrize("stream", [False, True])
def test_raw_text_is_continued(ask, model, stream):
    request = {"prompt": "Türkiye'nin başkenti", "max_tokens": 8, "seed": 3, "temperature": 1.0}
    answer = ask(COMPLETE, model="nano", stream=stream, **request)
    expected = model.generate(request["prompt"], template=False, max_new_tokens=8, seed=3, temperature=1.0)
    assert (joined(answer) if stream else answer.choices[0].text) == expected != ""


def test_prompts_are_texts_or_ids(ask, model):
    texts = ["Türkiye'nin başkenti", "Bugün salı,"]
    ids = [model.tokenizer.encode(text) for text in texts]
    expected = model.generate(texts, template=False, max_new_tokens=8)
    for prompts in (texts, ids):
        answer = ask(COMPLETE, model="nano", prompt=prompts, max_tokens=8)
        assert [choice.text for choice in answer.choices] == expected
    assert ask(COMPLETE, model="nano", prompt=ids[0], max_tokens=8).choices[0].text == expected[0]


def test_text_is_filled_in_before_a_suffix(ask, model):
    request = {"prompt": "Türkiye'nin başkenti", "suffix": " şehridir."}
    answer = ask(COMPLETE, model="nano", max_tokens=2, **request)
    sequence = model.raw_sequence(*request.values(), max_new_tokens=2)
    assert answer.choices[0].text == Completion.of(step for _, step in run(model.engine, [sequence], 1)).text


def test_completions_have_log_probabilities(ask):
    answer = ask(COMPLETE, model="nano", prompt="Türkiye'nin başkenti", max_tokens=4, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == answer.usage.completion_tokens
    assert {len(best) for best in logprobs.top_logprobs} == {2}
    assert logprobs.text_offset[0] == 0


# Models.


def test_the_model_is_listed(ask):
    [model] = ask("models.list").data
    assert model == ask("models.retrieve", "nano")
    assert (model.id, model.owned_by) == ("nano", "diffutron-ort")
    assert model.model_extra["diffutron"]["context_length"] == 256


# Errors. Each is told once: clients do not ask again for what will fail again.

REFUSED = {
    "too long": ({"messages": TOO_LONG}, "BadRequestError", "context_length_exceeded", "messages"),
    "another model": ({"model": "gpt-4o"}, "NotFoundError", "model_not_found", "model"),
    "top_p": ({"top_p": 0.5}, "BadRequestError", "unsupported_value", "top_p"),
    "tools": ({"tools": [{"type": "function"}]}, "BadRequestError", "unsupported_value", "tools"),
    "a wrong type": ({"n": "two"}, "BadRequestError", "invalid_value", "n"),
    "a wrong option": ({"extra_body": {"steps": 0}}, "BadRequestError", "invalid_value", "steps"),
    "a wrong preset": ({"extra_body": {"preset": "quick"}}, "BadRequestError", "invalid_value", "preset"),
    "a tag": (
        {"messages": [{"role": "user", "content": "[/Question]"}]},
        "BadRequestError",
        "template_tags",
        "messages[0].content",
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("request_", "kind", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_request_is_refused_once(ask, server, request_, kind, code, param, stream):
    before = server.ended("refused")
    with pytest.raises(openai.APIStatusError) as caught:
        ask(CHAT, retries=2, stream=stream, **{"model": "nano", "messages": MESSAGES, **request_})
    assert type(caught.value).__name__ == kind
    assert (caught.value.code, caught.value.param, caught.value.type) == (code, param, "invalid_request_error")
    assert server.ended("refused") == before + 1


def test_a_text_that_is_too_long_is_refused_with_the_figures(ask, model):
    with pytest.raises(openai.BadRequestError, match="64 new ones are .*, the model's context is 256"):
        ask(CHAT, model="nano", messages=TOO_LONG)


def test_a_model_that_is_not_there_is_not_found(ask):
    with pytest.raises(openai.NotFoundError) as caught:
        ask("models.retrieve", "gpt-4o")
    assert caught.value.code == "model_not_found"


def test_a_key_is_asked_for(call, tmp_path):
    with serving(tmp_path, "--api-key", "a-key") as server:
        assert call(server.base, "models.list", key="a-key").data[0].id == "nano"
        with pytest.raises(openai.AuthenticationError, match="key"):
            call(server.base, CHAT, key="another", model="nano", messages=MESSAGES)


def test_a_full_queue_is_tried_again_after_the_time_it_says(call, model, tmp_path):
    flags = ("--max-batch", "1", "--max-queue", "63")
    with serving(tmp_path, *flags, is_gated=True) as server, ThreadPoolExecutor() as threads:
        request = {"model": "nano", "messages": MESSAGES, "n": 64}
        with openai.OpenAI(base_url=server.base, api_key="none") as client:
            held = client.chat.completions.create(stream=True, **request)
            with pytest.raises(openai.RateLimitError) as caught:
                call(server.base, CHAT, **request)
            began = time.monotonic()
            answer = threads.submit(call, server.base, CHAT, retries=20, max_tokens=1, **request)
            until(lambda: server.ended("refused") >= 2)
            held.close()
        server.gate.touch()
        assert answer.result().choices[63].message.content == model.chat(MESSAGES, max_new_tokens=1)
        assert (caught.value.code, caught.value.response.headers["retry-after"]) == ("queue_full", "5")
        assert time.monotonic() - began >= 5


def test_what_comes_too_late_ends_with_an_error(call, tmp_path):
    with serving(tmp_path, "--deadline", "6", is_gated=True) as server, ThreadPoolExecutor() as threads:
        request = {"model": "nano", "messages": MESSAGES, "retries": 2}
        stream, whole = [
            threads.submit(call, server.base, CHAT, stream=streams, **request) for streams in (True, False)
        ]
        with pytest.raises(openai.APIError) as caught:
            stream.result()
        assert (type(caught.value), caught.value.code) == (openai.APIError, "deadline_exceeded")
        with pytest.raises(openai.InternalServerError) as caught:
            whole.result()
        assert (caught.value.status_code, caught.value.code) == (503, "deadline_exceeded")
        assert server.ended("late") == 2  # x-should-retry: false
        server.gate.touch()
        server.becomes_idle()


# Clients that do not wait for the end.


@pytest.fixture(scope="module")
def shut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers nobody before its gate is opened."""
    with serving(tmp_path_factory.mktemp("shut"), is_gated=True) as found:
        yield found


def test_a_timeout_frees_the_engine(call, shut):
    with shut.left_by_a_client(), pytest.raises(openai.APITimeoutError):
        call(shut.base, CHAT, model="nano", messages=MESSAGES, timeout=6, n=64)  # by then even a busy one has read it


def test_a_stream_that_is_closed_frees_the_engine(shut):
    with shut.left_by_a_client(), openai.OpenAI(base_url=shut.base, api_key="none") as client:
        request = {"model": "nano", "messages": MESSAGES, "n": 64}
        with client.chat.completions.create(stream=True, **request) as stream:
            next(iter(stream))


def test_an_asynchronous_stream_that_is_closed_frees_the_engine(shut):
    async def leave() -> None:
        async with openai.AsyncOpenAI(base_url=shut.base, api_key="none") as client:
            request = {"model": "nano", "messages": MESSAGES, "n": 64}
            async with await client.chat.completions.create(stream=True, **request) as stream:
                async for _ in stream:
                    break

    with shut.left_by_a_client():
        asyncio.run(leave())


def test_many_at_once_get_what_each_would_alone(server, model):
    async def ask_all() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=server.base, api_key="none") as client:
            ask = client.chat.completions.create
            request = {"model": "nano", "messages": MESSAGES, "temperature": 1.5, "extra_body": MANY_PIECES}
            return await asyncio.gather(*(ask(seed=seed, **request) for seed in range(12)))

    texts = [answer.choices[0].message.content for answer in asyncio.run(ask_all())]
    assert texts == [model.chat(MESSAGES, temperature=1.5, seed=seed, **MANY_PIECES) for seed in range(12)]
