import asyncio
import threading

import pytest

from diffutron_ort import Diffutron
from tests.serve.held import Held
from tests.serve.serving import CHAT, SECONDS, gauge, serving, until

SHORT = {"steps": 12, "max_new_tokens": 12, "block_length": 12, "early_end": False}


def ask(client, **more):
    return asyncio.ensure_future(client.post("/v1/chat/completions", json=CHAT | SHORT | more))


def test_a_request_joins_between_two_passes_of_another_and_leaves_at_its_end(held):
    passes, model = held

    async def two():
        async with serving(model) as client:
            first = ask(client)
            await passes.in_pass(1)
            second = ask(client, steps=3)
            await waiting(client, 1)
            passes.let_go(1)
            await passes.in_pass(2)
            passes.let_go()
            return await asyncio.gather(first, second)

    answers = asyncio.run(two())
    assert all(answer.status_code == 200 for answer in answers)
    assert passes.passes == [1, *[2] * 3, *[1] * 8]


async def waiting(client, count):
    """Wait until as many sequences are in the queue."""
    await until(lambda: gauge(client, "waiting") == count)


def test_requests_begin_in_the_order_in_which_they_came_and_at_most_max_batch_run(held):
    passes, model = held
    ended = []

    async def several():
        async with serving(model, max_batch=2) as client:
            tasks = []
            for number in range(5):
                task = ask(client, steps=3)
                task.add_done_callback(lambda _, number=number: ended.append(number))
                tasks.append(task)
                await passes.in_pass(1)
                await waiting(client, max(0, number - (1 if len(passes.passes) > 1 else 0)))
            passes.let_go()
            await asyncio.gather(*tasks)

    asyncio.run(several())
    assert ended == sorted(ended)
    assert max(passes.passes) == 2


def test_a_full_queue_refuses_with_429_until_there_is_room(held):
    passes, model = held

    async def many():
        async with serving(model, max_batch=1, max_queue=2) as client:
            taken = [ask(client)]
            await passes.in_pass(1)
            taken += [ask(client), ask(client)]
            await waiting(client, 2)
            refused = await ask(client)
            several = await ask(client, n=2)
            passes.let_go()
            await asyncio.gather(*taken)
            return refused, several, await ask(client, n=3), [task.result().status_code for task in taken]

    refused, several, later, taken = asyncio.run(many())
    assert refused.status_code == several.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert int(refused.headers["retry-after"]) > 0
    assert "x-should-retry" not in refused.headers
    assert (taken, later.status_code) == ([200] * 3, 200)


def test_without_a_queue_an_idle_server_still_answers(model):
    async def one():
        async with serving(model, max_batch=1, max_queue=0) as client:
            return await ask(client)

    assert asyncio.run(one()).status_code == 200


def test_a_sequence_that_has_ended_takes_no_room(model):
    async def one_after_another():
        async with serving(model, max_batch=2, max_queue=0) as client:
            return {(await ask(client, steps=1, n=2)).status_code for _ in range(30)}

    assert asyncio.run(one_after_another()) == {200}


def test_a_request_that_can_never_run_is_not_told_to_come_again(model):
    async def too_many():
        async with serving(model, max_batch=2, max_queue=3) as client:
            return await ask(client, n=6)

    answer = asyncio.run(too_many())
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


def test_who_hangs_up_while_the_sequences_are_made_stops_that(model, monkeypatch):
    made, first, go = [], threading.Event(), threading.Event()
    sequence = Diffutron.sequence

    def slowly(*arguments, **options):
        made.append(None)
        first.set()
        assert go.wait(SECONDS)
        return sequence(*arguments, **options)

    monkeypatch.setattr(Diffutron, "sequence", slowly)

    async def hanging_up():
        async with serving(model) as client:
            gone = asyncio.Event()
            task = asyncio.ensure_future(asked(client._transport.app, CHAT | SHORT | {"n": 20}, gone))
            await asyncio.to_thread(first.wait)
            gone.set()
            await task
            assert client.service.idle
            go.set()

    asyncio.run(hanging_up())
    assert len(made) == 1


def test_an_engine_whose_thread_fails_is_not_ready_any_more(model, monkeypatch):
    async def failing():
        async with serving(model) as client:
            monkeypatch.setattr("diffutron_ort.serve.batching.scheduler.Scheduler._take", None)
            answer = await ask(client)
            return answer, await client.get("/ready"), client.service.failure

    answer, ready, failure = asyncio.run(failing())
    assert (answer.status_code, ready.status_code) == (500, 503)
    assert isinstance(failure, TypeError)


async def asked(app, body, hang_up, path="/v1/chat/completions"):
    """Send a request to an ASGI application, and hang up once `hang_up` is set."""
    import json

    parts = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive():
        if parts:
            return parts.pop()
        await hang_up.wait()
        return {"type": "http.disconnect"}

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_who_hangs_up_is_out_of_the_batch_at_the_next_pass(held, more):
    passes, model = held

    async def hanging_up():
        async with serving(model) as client:
            gone = asyncio.Event()
            task = asyncio.ensure_future(asked(client._transport.app, CHAT | SHORT | more, gone))
            await passes.in_pass(1)
            other = ask(client, steps=2)
            await waiting(client, 1)
            passes.let_go(1)
            await passes.in_pass(2)
            gone.set()
            await task
            passes.let_go()
            await other
            return client.service.idle, client.service.metrics.text().decode()

    idle, metrics = asyncio.run(hanging_up())
    assert passes.passes[:3] == [1, 2, 1]
    assert len(passes.passes) == 3
    assert idle
    assert 'diffutron_requests_total{end="gone"} 1.0' in metrics


def test_who_hangs_up_while_waiting_leaves_room_in_the_queue(held):
    passes, model = held

    async def hanging_up():
        async with serving(model, max_batch=1, max_queue=2) as client:
            first, gone = ask(client), asyncio.Event()
            await passes.in_pass(1)
            task = asyncio.ensure_future(asked(client._transport.app, CHAT | SHORT | {"n": 2}, gone))
            await waiting(client, 2)
            assert (await ask(client)).status_code == 429
            gone.set()
            await task
            second = ask(client)
            await waiting(client, 1)
            passes.let_go()
            return [(await one).status_code for one in (first, second)]

    assert asyncio.run(hanging_up()) == [200, 200]


def test_a_model_that_is_not_batch_invariant_runs_one_sequence_after_another(model):
    alone = Held(model.forward, batch_invariant=False)
    alone.let_go()

    async def two():
        async with serving(Diffutron(model.bundle, model.tokenizer, alone)) as client:
            return await asyncio.gather(*(ask(client) for _ in range(3)))

    assert {answer.status_code for answer in asyncio.run(two())} == {200}
    assert set(alone.passes) == {1}


def test_draining_finishes_what_was_taken_and_takes_no_more(held):
    passes, model = held

    async def drained():
        async with serving(model) as client:
            taken = ask(client)
            await passes.in_pass(1)
            client.service.drain()
            refused, ready = await ask(client), await client.get("/ready")
            alive = await client.get("/health")
            assert not client.service.idle
            passes.let_go()
            metrics = client.service.metrics.text().decode()
            assert 'diffutron_requests_total{end="refused"} 1.0' in metrics
            assert 'end="failed"' not in metrics
            return await taken, refused, ready, alive, client.service.idle

    taken, refused, ready, alive, idle = asyncio.run(drained())
    assert (taken.status_code, refused.status_code, ready.status_code, alive.status_code) == (200, 503, 503, 200)
    assert refused.headers["retry-after"]
    assert ready.json() == {"status": "draining"}
    assert idle


def test_while_the_model_loads_the_server_says_so(model):
    import httpx

    from diffutron_ort.serve.app import make_app
    from diffutron_ort.serve.batching.service import Service
    from diffutron_ort.serve.settings import Settings

    go = threading.Event()
    settings = Settings()
    service = Service(settings, lambda: go.wait(SECONDS) and model)
    app = make_app(service, settings)
    service.start()

    async def asking():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            early = [await client.get("/ready"), await client.post("/v1/completions", json={"prompt": "x"})]
            early.append(await client.get("/v1/models"))
            go.set()
            await until(lambda: service.state != "loading")
            return early, await client.get("/ready")

    early, late = asyncio.run(asking())
    service.close()
    assert [answer.status_code for answer in early] == [503, 503, 503]
    assert early[1].json()["error"]["code"] == "loading"
    assert late.json() == {"status": "ready"}


def test_abandoned_requests_fail_at_once_though_the_pass_hangs(held):
    passes, model = held

    async def abandoned():
        async with serving(model) as client:
            tasks = [ask(client)]
            await passes.in_pass(1)
            tasks.append(ask(client))
            await waiting(client, 1)
            age = client.service.pass_age
            client.service.abandon(RuntimeError("the pass hangs"))
            answers = await asyncio.wait_for(asyncio.gather(*tasks), SECONDS)
            passes.let_go()
            return age, answers, await ask(client)

    age, answers, after = asyncio.run(abandoned())
    assert age is not None
    assert age >= 0
    assert [answer.status_code for answer in answers] == [500, 500]
    assert after.status_code == 503
