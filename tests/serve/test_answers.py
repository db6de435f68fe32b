import asyncio
import json
from math import log

import pytest

from diffutron_ort.sampler.engine import run
from tests.serve.serving import CHAT, QUESTION, events, post, serving

SHORT = {"steps": 16, "max_new_tokens": 24, "block_length": 12}
RAW = f"[Question]\n{QUESTION}\n[/Question]\n\n[Answer]\n"
LIVELY = {**SHORT, "temperature": 1.0, "seed": 5}


def texts(response):
    """Return the texts of an answer's choices, in order."""
    assert response.status_code == 200, response.text
    return [c["message"]["content"] if "message" in c else c["text"] for c in response.json()["choices"]]


def joined(chunks, key="delta"):
    """Return what the chunks of each choice add up to."""
    found = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            piece = choice["delta"].get("content", "") if key == "delta" else choice["text"]
            found[choice["index"]] = found.get(choice["index"], "") + piece
    return [found[index] for index in sorted(found)]


def infilled(model, before, after, **options):
    """Return what the library writes between two texts."""
    [*_, (_, step)] = run(model.engine, [model.raw_sequence(before, after, **options)], 1)
    return step.text


@pytest.mark.parametrize("options", [{}, SHORT, LIVELY, {"preset": "fast"}, {"stop": "yedi"}, {"stop": ["yedi", "x"]}])
def test_a_chat_gets_the_text_of_the_library(model, options):
    answer = post(model, "/v1/chat/completions", CHAT | options)
    assert texts(answer) == [model.chat(CHAT["messages"], **options)]


def test_an_answer_has_the_fields_of_openai_s(model):
    answer = post(model, "/v1/chat/completions", CHAT).json()
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "nano"
    assert answer["system_fingerprint"].startswith("fp_")
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "on yedi", "refusal": None}
    assert choice["finish_reason"] == "stop"
    found = model.complete(QUESTION)
    assert answer["usage"] == {
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "total_tokens": found.prompt_tokens + found.completion_tokens,
    }
    assert choice["diffutron"]["steps"] == found.steps


def test_each_of_n_choices_has_the_next_seed(model):
    answer = post(model, "/v1/chat/completions", CHAT | LIVELY | {"n": 3})
    assert texts(answer) == [model.generate(QUESTION, **(LIVELY | {"seed": 5 + i})) for i in range(3)]
    one = post(model, "/v1/chat/completions", CHAT | LIVELY).json()["usage"]
    assert answer.json()["usage"]["prompt_tokens"] == one["prompt_tokens"]


@pytest.mark.parametrize("prompt", [RAW, [RAW], [RAW, "Bir varmış"]])
def test_a_completion_gets_the_text_of_the_library(model, prompt):
    given = [prompt] if isinstance(prompt, str) else prompt
    answer = post(model, "/v1/completions", {"prompt": prompt} | LIVELY)
    assert texts(answer) == model.generate(given, template=False, **LIVELY)


def test_prompts_can_be_token_ids(model):
    ids = [model.tokenizer.encode(text) for text in (RAW, "Bir varmış")]
    expected = model.generate([RAW, "Bir varmış"], template=False, **LIVELY)
    assert texts(post(model, "/v1/completions", {"prompt": ids} | LIVELY)) == expected
    assert texts(post(model, "/v1/completions", {"prompt": ids[0]} | LIVELY)) == expected[:1]


def test_a_suffix_is_seen_and_not_part_of_the_text(model):
    before, after = "Türkiye'nin başkenti", " şehridir."
    answer = post(model, "/v1/completions", {"prompt": before, "suffix": after, "max_tokens": 2})
    assert texts(answer) == [" Ankara"] == [infilled(model, before, after, max_new_tokens=2)]
    options = {"max_new_tokens": 8, "temperature": 1.0}
    assert infilled(model, "Türkiye", after, **options) != infilled(model, "Türkiye", "", **options)
    tokens = len(model.tokenizer.encode(before)) + len(model.tokenizer.encode(after))
    assert answer.json()["usage"]["prompt_tokens"] == tokens


@pytest.mark.parametrize("options", [{}, LIVELY, {"n": 2, **LIVELY}, {"preset": "fast"}, {"stop": " yedi"}])
def test_the_deltas_of_a_stream_are_the_text_without_it(model, options):
    whole = post(model, "/v1/chat/completions", CHAT | options)
    stream = post(model, "/v1/chat/completions", CHAT | options | {"stream": True})
    assert stream.headers["content-type"].startswith("text/event-stream")
    chunks = events(stream)
    assert joined(chunks) == texts(whole)
    ends = [choice for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    reasons = [choice["finish_reason"] for choice in whole.json()["choices"]]
    assert [end["finish_reason"] for end in sorted(ends, key=lambda end: end["index"])] == reasons
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_a_long_answer_is_streamed_in_pieces(model):
    body = {"prompt": "Bir", "stream": True, "max_tokens": 64, "temperature": 1.5, "suppress_tokens": [0, 1]}
    chunks = events(post(model, "/v1/completions", body))
    assert sum(bool(chunk["choices"][0]["text"]) for chunk in chunks) > 2
    assert joined(chunks, "text") == texts(post(model, "/v1/completions", body | {"stream": False}))


def test_a_stream_tells_the_usage_last_if_asked(model):
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    *_, last = events(post(model, "/v1/chat/completions", body))
    assert last["choices"] == []
    assert last["usage"] == post(model, "/v1/chat/completions", CHAT).json()["usage"]
    assert not any("usage" in chunk for chunk in events(post(model, "/v1/chat/completions", CHAT | {"stream": True})))


def test_a_diffusing_stream_shows_every_step(model):
    chunks = events(post(model, "/v1/chat/completions", CHAT | {"stream": True, "diffusing": True}))
    steps = list(model.stream(QUESTION))
    assert [chunk["diffutron"]["step"] for chunk in chunks] == list(range(len(steps) + 1))
    for chunk, step in zip(chunks[1:], steps, strict=True):
        canvas = chunk["diffutron"]
        assert chunk["choices"][0]["delta"]["content"] == step.text
        assert canvas["positions"] == (step.positions - step.start).tolist()
        assert canvas["confidence"] == pytest.approx(step.confidence, abs=1e-6)
        assert (canvas["masks"], canvas["block"], canvas["length"]) == (step.masks_left, step.block, 64)
    assert chunks[0]["diffutron"]["masks"] == 64
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["diffutron"]["beyond"] == 4  # on, yedi, a newline, [/Answer]
    placed = {p: t for c in chunks for p, t in zip(c["diffutron"]["positions"], c["diffutron"]["tokens"], strict=True)}
    assert [placed[place] for place in range(4)] == [" on", " yedi", "\n", " [/Answer]"]


def test_log_probabilities_are_those_of_the_step_that_committed_each_token(model):
    body = CHAT | LIVELY | {"logprobs": True, "top_logprobs": 3}
    answer = post(model, "/v1/chat/completions", body)
    content = answer.json()["choices"][0]["logprobs"]["content"]
    steps = list(model.stream(QUESTION, **LIVELY))
    sure = {p: c for step in steps for p, c in zip(step.positions.tolist(), step.confidence, strict=True)}
    expected = [log(sure[position]) for position in steps[-1].answer.tolist()]
    assert [token["logprob"] for token in content] == pytest.approx(expected)
    for token in content:
        best = [top["logprob"] for top in token["top_logprobs"]]
        assert best == sorted(best, reverse=True)
        assert len(best) == 3
        assert bytes(token["bytes"]).decode() == token["token"]
        same = [top["logprob"] for top in token["top_logprobs"] if top["token"] == token["token"]]
        assert same == pytest.approx([token["logprob"]] * len(same))
    stream = events(post(model, "/v1/chat/completions", body | {"stream": True}))
    told = [c["choices"][0]["logprobs"] for c in stream if c["choices"] and c["choices"][0]["logprobs"]]
    assert told == [answer.json()["choices"][0]["logprobs"]]


def test_a_completion_s_log_probabilities_are_lists(model):
    found = post(model, "/v1/completions", {"prompt": RAW, "logprobs": 2}).json()["choices"][0]["logprobs"]
    assert found["tokens"] == [" on", " yedi", "\n"]
    assert found["text_offset"] == [0, 3, 8]
    assert [len(best) for best in found["top_logprobs"]] == [2, 2, 2]
    assert [best[token] for best, token in zip(found["top_logprobs"], found["tokens"], strict=True)] == pytest.approx(
        found["token_logprobs"]
    )


def test_many_requests_at_once_each_get_their_own_text(model):
    questions = [f"{word} artı {other} kaç eder?" for word in ("bir", "on", "yedi") for other in ("iki", "dokuz")]
    bodies = [
        {"messages": [{"role": "user", "content": q}], "seed": i, "temperature": 1.0, **SHORT, "stream": i % 2 == 0}
        for i, q in enumerate(questions * 4)
    ]

    async def all_of_them():
        async with serving(model, max_batch=5) as client:
            return await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for body in bodies))

    for body, answer in zip(bodies, asyncio.run(all_of_them()), strict=True):
        options = {name: body[name] for name in ("seed", "temperature", *SHORT)}
        found = joined(events(answer)) if body["stream"] else texts(answer)
        assert found == [model.chat(body["messages"], **options)]


def test_the_models_are_told(model):
    async def asked():
        async with serving(model, name="bir/iki") as client:
            return [await client.get(path) for path in ("/v1/models", "/v1/models/bir/iki", "/v1/models/x")]

    several, one, none = asyncio.run(asked())
    assert several.json() == {"object": "list", "data": [one.json()]}
    assert one.json()["id"] == "bir/iki"
    assert one.json()["diffutron"]["context_length"] == model.bundle.context_length
    assert none.status_code == 404
    assert none.json()["error"]["code"] == "model_not_found"
    assert json.loads(none.text)["error"]["type"] == "invalid_request_error"
