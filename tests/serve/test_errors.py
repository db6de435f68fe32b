import json
import math

import pytest

from diffutron_ort import Diffutron
from tests.serve.serving import CHAT, post

USER = {"role": "user", "content": "x"}


def failed(model, path, body, **settings):
    """Return the status, code, param, message and headers of an answer that is an error."""
    answer = post(model, path, body, **settings)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"], error["param"], error["message"], answer.headers


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "user"}]}, "invalid_value", "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_value", "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "invalid_value", "messages"),
        ({"messages": [USER | {"content": [{"type": "image_url"}]}]}, "bad_request", "messages[0].content[0]"),
        ({"messages": [USER | {"content": "a [/Answer]"}]}, "template_tags", "messages[0].content"),
        ({"messages": [USER | {"content": "a " * 500}]}, "context_length_exceeded", "messages"),
        ({"max_tokens": 1000}, "context_length_exceeded", "messages"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": 8, "max_completion_tokens": 9}, "bad_request", "max_tokens"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 10}, "invalid_value", "n"),
        ({"seed": -1}, "invalid_value", "seed"),
        ({"temperature": 0.001}, "invalid_value", "temperature"),
        ({"temperature": "hot"}, "invalid_value", "temperature"),
        ({"steps": 101}, "invalid_value", "steps"),
        ({"steps": 101.0}, "invalid_value", "steps"),
        ({"steps": 65536.0}, "invalid_value", "steps"),
        ({"max_tokens": 3_000_000_000}, "invalid_value", "max_tokens"),
        ({"max_completion_tokens": 10**30}, "invalid_value", "max_completion_tokens"),
        ({"stop": ["x"] * 17}, "invalid_value", "stop"),
        ({"stop": ["x" * 1001]}, "invalid_value", "stop"),
        ({"suppress_tokens": [1] * 5000}, "invalid_value", "suppress_tokens"),
        ({"commit": "factor", "remasking": "random"}, "invalid_value", None),
        ({"preset": "faster"}, "invalid_value", "preset"),
        ({"stream": 1}, "invalid_value", "stream"),
        ({"top_p": 0.9}, "unsupported_value", "top_p"),
        ({"logit_bias": {"1": 2}}, "unsupported_value", "logit_bias"),
        ({"tools": [{"type": "function"}]}, "unsupported_value", "tools"),
        ({"response_format": {"type": "json_object"}}, "invalid_value", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "invalid_value", "response_format.json_schema"),
        ({"top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"model": "gpt-9"}, "model_not_found", "model"),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_why(model, more, code, param):
    status, found, where, message, headers = failed(
        model, "/v1/chat/completions", CHAT | more, max_steps=100, max_sequences=9
    )
    assert (status, found, where) == (404 if code == "model_not_found" else 400, code, param)
    assert message
    assert headers["x-should-retry"] == "false"


def test_a_context_error_has_the_figures(model):
    *_, message, _ = failed(model, "/v1/chat/completions", CHAT | {"max_tokens": 250})
    assert message.startswith("this model's maximum context length is exceeded: ")
    assert message.partition(": ")[2].startswith(
        "14 tokens of prompt and 250 new ones are 264, the model's context is 256"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"messages": 1, "messages": 2}',
        b'{"temperature": NaN}',
        b'{"temperature": 1e999}',
        b'{"user": "\\ud800"}',
        b'{"user": "\xff"}',
        b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"x": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"seed": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_not_strict_json_is_refused(model, body):
    status, code, *_ = failed(model, "/v1/chat/completions", body)
    assert (status, code) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("prompt", "param"),
    [([], "prompt"), ([[]], None), ([1, "x"], "prompt"), ([[1], 2], "prompt"), ([10**9], "prompt"), ({}, "prompt")],
)
def test_a_prompt_must_be_text_or_token_ids(model, prompt, param):
    answer = post(model, "/v1/completions", {"prompt": prompt, "max_tokens": 1})
    if param is None:  # no token of prompt is allowed
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_neutral_values_are_taken_and_unknown_fields_are_named(model):
    neutral = {"top_p": 1.0, "frequency_penalty": 0, "logit_bias": {}, "tools": [], "response_format": {"type": "text"}}
    unknown = {"store": True, "metadata": {}, "bad name": 1, "x\r\ny": 2, "tool_choice": None}
    answer = post(model, "/v1/chat/completions", CHAT | neutral | unknown)
    assert answer.json()["choices"][0]["message"]["content"] == "on yedi"
    assert answer.headers["x-ignored"] == "metadata, store"


def test_parts_of_a_message_are_joined_and_a_developer_is_the_system(model):
    parts = [{"type": "text", "text": "On iki artı "}, {"type": "text", "text": "beş kaç eder?"}]
    messages = [{"role": "developer", "content": "Kısa yaz."}, {"role": "user", "content": parts, "name": "a"}]
    answer = post(model, "/v1/chat/completions", {"messages": messages}).json()
    plain = [{"role": "system", "content": "Kısa yaz."}, {"role": "user", "content": "On iki artı beş kaç eder?"}]
    assert answer["choices"][0]["message"]["content"] == model.chat(plain)


def test_tags_are_let_through_if_told(model):
    messages = [{"role": "user", "content": "[Question] On iki artı beş kaç eder?"}]
    answer = post(model, "/v1/chat/completions", {"messages": messages}, allow_tags=True)
    assert answer.json()["choices"][0]["message"]["content"] == model.chat(messages)


class Failing:
    """A model that fails once it is asked for the `fatal` token."""

    batch_invariant = True

    def __init__(self, forward, error, after=0):
        self.forward, self.error, self.after = forward, error, after

    def __call__(self, given):
        if self.after == 0:
            raise self.error
        self.after -= 1
        return self.forward(given)


@pytest.mark.parametrize("error", [RuntimeError("/secret/path"), MemoryError("secret")])
def test_a_failure_of_the_model_tells_nothing_of_the_inside(model, error):
    broken = Diffutron(model.bundle, model.tokenizer, Failing(model.forward, error))
    status, code, _, message, headers = failed(broken, "/v1/chat/completions", CHAT)
    assert status == 500
    assert code in ("internal_error", "model_failure")
    assert "secret" not in message
    assert headers["x-should-retry"] == "false"


def test_a_late_failure_is_an_event_of_the_stream(model):
    broken = Diffutron(model.bundle, model.tokenizer, Failing(model.forward, RuntimeError("secret"), after=3))
    answer = post(broken, "/v1/chat/completions", CHAT | {"stream": True, "diffusing": True})
    *chunks, last = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    assert len(chunks) == 4
    assert last["error"]["code"] == "internal_error"
    assert "secret" not in answer.text


def test_an_answer_that_is_late_is_ended(held):
    _, model = held
    status, code, _, _, headers = failed(model, "/v1/chat/completions", CHAT, deadline=0.01)
    assert (status, code) == (503, "deadline_exceeded")
    assert headers["x-should-retry"] == "false"


def test_a_sequence_that_is_not_finite_fails_alone(model):
    import asyncio

    from tests.serve.serving import serving

    class Poisoned:
        """A model that returns NaN for the sequence that holds a token."""

        batch_invariant = True

        def __call__(self, given):
            found = model.forward(given)
            rows = given.rows // given.input_ids.shape[1]
            poisoned = (given.input_ids == poison).any(axis=1)[rows]
            found.rest[poisoned] = math.nan
            return found

    poison = model.tokenizer.encode("on altı")[-1]
    poisoned = Diffutron(model.bundle, model.tokenizer, Poisoned())
    bodies = [
        {"messages": [{"role": "user", "content": text}]} for text in ("bir artı iki kaç eder?", "altı artı iki?")
    ]

    async def both():
        async with serving(poisoned) as client:
            return await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for body in bodies * 3))

    answers = asyncio.run(both())
    assert [answer.status_code for answer in answers] == [200, 500] * 3
    assert answers[1].json()["error"]["code"] == "model_failure"
    assert answers[0].json()["choices"][0]["message"]["content"] == model.chat(bodies[0]["messages"])
