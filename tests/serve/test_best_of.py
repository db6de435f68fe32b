"""`best_of`: more answers are written than are returned, and the surest are those of the library."""

import asyncio
import threading

import pytest

from diffutron_ort.serve.batching.jobs import Task
from diffutron_ort.serve.batching.metrics import Metrics
from diffutron_ort.serve.batching.scheduler import QueueFullError, Scheduler
from tests.serve.serving import CHAT, QUESTION, post

DRAWN = {"temperature": 1.5, "seed": 4, "max_tokens": 24}
PROMPTS = ["Türkiye'nin başkenti", "On iki artı"]


def refused(model, body, **settings):
    answer = post(model, "/v1/chat/completions", CHAT | body, **settings)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    return error["code"], error["param"]


def test_the_surest_answer_is_the_librarys(model):
    found = post(model, "/v1/chat/completions", CHAT | DRAWN | {"best_of": 5}).json()
    own = model.complete(QUESTION, best_of=5, temperature=1.5, seed=4, max_new_tokens=24)
    assert [choice["message"]["content"] for choice in found["choices"]] == [own.text]
    assert found["choices"][0]["index"] == 0
    each = [model.complete(QUESTION, temperature=1.5, seed=4 + i, max_new_tokens=24) for i in range(5)]
    assert found["usage"] == {
        "prompt_tokens": each[0].prompt_tokens,
        "completion_tokens": sum(one.completion_tokens for one in each),
        "total_tokens": each[0].prompt_tokens + sum(one.completion_tokens for one in each),
    }


def test_the_surest_n_of_each_prompt_come_best_first(model):
    body = DRAWN | {"prompt": PROMPTS, "n": 2, "best_of": 4, "logprobs": 1}
    choices = post(model, "/v1/completions", body).json()["choices"]
    expected = []
    for number, prompt in enumerate(PROMPTS):
        options = {"template": False, "self_confidence": True, "temperature": 1.5, "max_new_tokens": 24}
        each = [model.complete(prompt, seed=4 + 4 * number + i, **options) for i in range(4)]
        expected += sorted(each, key=lambda one: -(one.self_confidence or 0))[:2]
    assert [choice["text"] for choice in choices] == [one.text for one in expected]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert all(len(one["logprobs"]["tokens"]) for one in choices if one["text"])


def test_as_many_as_are_wanted_are_not_chosen_among(model):
    plain = post(model, "/v1/chat/completions", CHAT | DRAWN | {"n": 3}).json()["choices"]
    assert post(model, "/v1/chat/completions", CHAT | DRAWN | {"n": 3, "best_of": 3}).json()["choices"] == plain
    assert post(model, "/v1/chat/completions", CHAT | {"best_of": 1, "stream": True}).status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"best_of": 0}, "invalid_value"),
        ({"best_of": 65}, "invalid_value"),
        ({"best_of": "2"}, "invalid_value"),
        ({"best_of": True}, "invalid_value"),
        ({"best_of": 2, "n": 3}, "invalid_value"),
        ({"best_of": 2, "temperature": 0}, "invalid_value"),
        ({"best_of": 2, "temperature": 1, "stream": True}, "unsupported_value"),
        (
            {"best_of": 2, "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
            "unsupported_value",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(model, body, code):
    assert refused(model, body) == (code, "best_of")


def test_it_is_bounded_as_n_is(model):
    assert refused(model, {"best_of": 9, "temperature": 1}, max_sequences=8) == ("invalid_value", "best_of")


def test_a_full_queue_does_not_lose_answers_that_are_written():
    """What compares them ends a request that was taken: it goes first, and needs no room in the queue."""
    done = []

    def work(name):
        done.append(name)
        yield 1.0

    async def full():
        scheduler = Scheduler(1, 0, Metrics())
        tasks = [Task(work("waiting")), Task(work("taken"))]
        scheduler.submit(tasks[0])
        with pytest.raises(QueueFullError):
            scheduler.submit(Task(work("too many")))
        scheduler.submit(tasks[1], taken=True)
        thread = threading.Thread(target=scheduler.run, args=[None])
        thread.start()
        for task in tasks:
            await task.result()
        scheduler.close()
        thread.join()

    asyncio.run(full())
    assert done == ["taken", "waiting"]
