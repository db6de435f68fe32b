"""Works beside sequences: they wait, take turns, are dropped, fail and are counted as these are."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from diffutron_ort.serve.batching.jobs import Task
from diffutron_ort.serve.errors import ApiError
from tests.serve.serving import CHAT, gauge, serving, until

SHORT = {"steps": 12, "max_new_tokens": 12, "block_length": 12, "early_end": False}


class Counted:
    """A work of so many passes, which are turns in a shared list, and which can fail before one of them."""

    def __init__(self, turns, name, passes, fails_at=None):
        self.closed = False
        self._turns, self._name, self._passes, self._fails_at = turns, name, passes, fails_at

    def work(self):
        self.kept = self._work()  # by more than the scheduler, so that it does not end by itself
        return self.kept

    def _work(self):
        try:
            for number in range(self._passes):
                if number == self._fails_at:
                    raise ZeroDivisionError(self._name)
                self._turns.append(self._name)
                yield (number + 1) / self._passes
            return f"{self._name} is done"
        finally:
            self.closed = True


async def result_of(service, counted):
    task = Task(counted.work())
    service.submit(task)
    return await task.result()


@pytest.fixture
def turns():
    return []


def test_works_take_turns_and_one_that_fails_leaves_the_others_alone(model, turns):
    counted = [Counted(turns, "a", 3), Counted(turns, "b", 3, fails_at=1), Counted(turns, "c", 2)]

    async def several():
        async with serving(model) as client:
            tasks = [Task(one.work()) for one in counted]
            with client.service._scheduler._changed:  # which does not run meanwhile, so that all join at once
                for task in tasks:
                    client.service.submit(task)
            return await asyncio.gather(*(task.result() for task in tasks), return_exceptions=True)

    first, second, third = asyncio.run(several())
    assert (first, third) == ("a is done", "c is done")
    assert isinstance(second, ZeroDivisionError)
    assert turns == ["a", "b", "c", "a", "c", "a"]
    assert all(one.closed for one in counted)


@pytest.fixture
def clock(held, turns, monkeypatch):
    """The scheduler's clock, on which a pass of sequences takes a second, and one of a work what a test says."""
    passes, _ = held
    found = SimpleNamespace(work=0, begun=time.monotonic())
    found.monotonic = lambda: found.begun + len(passes.passes) + found.work * len(turns)
    monkeypatch.setattr("diffutron_ort.serve.batching.scheduler.time", found)
    return found


@pytest.mark.usefixtures("clock")
def test_a_work_makes_one_pass_in_each_round_of_the_sequences_beside_it(held, turns):
    passes, model = held

    async def both():
        async with serving(model) as client:
            chat = asyncio.ensure_future(client.post("/v1/chat/completions", json=CHAT | SHORT))
            await passes.in_pass(1)
            work = asyncio.ensure_future(result_of(client.service, Counted(turns, "work", 3)))
            await until(lambda: gauge(client, "waiting") == 1)
            seen = []
            for number in range(2, 6):
                passes.let_go(1)
                await passes.in_pass(number)
                seen.append(len(turns))
            running = gauge(client, "running")
            passes.let_go()
            return seen, running, await work, (await chat).status_code

    seen, running, result, status = asyncio.run(both())
    assert seen == [0, 1, 2, 3]
    assert (running, result, status) == (2, "work is done", 200)


def test_heavy_works_take_no_more_time_than_the_sequences_beside_them(held, turns, clock):
    passes, model = held
    passes.let_go()
    clock.work = 4
    rounds = []

    class Heavy(Counted):
        def _work(self):
            for share in super()._work():
                rounds.append(len(passes.passes))
                yield share

    async def beside():
        async with serving(model) as client:
            tasks = [Task(Heavy(turns, "heavy", 30).work()) for _ in range(3)]
            with client.service._scheduler._changed:  # which does not run meanwhile, so that all join at once
                for task in tasks:
                    client.service.submit(task)
                chat = asyncio.ensure_future(client.post("/v1/chat/completions", json=CHAT | SHORT))
                await until(lambda: gauge(client, "waiting") == 4)
            await asyncio.gather(chat, *(task.result() for task in tasks))

    asyncio.run(beside())
    assert [number for number in rounds if number < SHORT["steps"]] == [1, 5, 9]
    assert len(rounds) == 90


def test_a_work_waits_for_its_place_and_is_refused_where_none_is_left(held, turns):
    passes, model = held

    async def full():
        async with serving(model, max_batch=1, max_queue=1) as client:
            chat = asyncio.ensure_future(client.post("/v1/chat/completions", json=CHAT | SHORT))
            await passes.in_pass(1)
            work = asyncio.ensure_future(result_of(client.service, Counted(turns, "work", 2)))
            await until(lambda: gauge(client, "waiting") == 1)
            with pytest.raises(ApiError) as refused:
                await result_of(client.service, Counted(turns, "refused", 2))
            assert not turns
            passes.let_go()
            await asyncio.gather(chat, work)
            return refused.value.status

    assert asyncio.run(full()) == 429
    assert turns == ["work"] * 2


def test_a_work_that_nobody_waits_for_makes_no_more_passes_and_is_closed(held, turns):
    passes, model = held
    begun, waiting = Counted(turns, "begun", 10_000), Counted(turns, "waiting", 2)

    async def cancelled():
        async with serving(model, max_batch=2) as client:
            chat = asyncio.ensure_future(client.post("/v1/chat/completions", json=CHAT | SHORT))
            await passes.in_pass(1)
            tasks = [Task(begun.work()), Task(waiting.work())]
            for task in tasks:
                client.service.submit(task)
            passes.let_go(1)
            await passes.in_pass(2)
            passes.let_go(1)
            await passes.in_pass(3)
            for task in tasks:
                task.cancel()
            passes.let_go()
            await chat
            await until(lambda: gauge(client, "running") == 0)

    asyncio.run(cancelled())
    assert turns == ["begun"]
    assert begun.closed


def test_works_are_abandoned_with_the_others(held, turns):
    passes, model = held

    async def abandoned():
        async with serving(model) as client:
            chat = asyncio.ensure_future(client.post("/v1/chat/completions", json=CHAT | SHORT))
            await passes.in_pass(1)
            work = asyncio.ensure_future(result_of(client.service, Counted(turns, "work", 2)))
            await until(lambda: gauge(client, "waiting") == 1)
            client.service.abandon(RuntimeError("the pass hangs"))
            with pytest.raises(RuntimeError, match="hangs"):
                await work
            passes.let_go()
            return (await chat).status_code

    assert asyncio.run(abandoned()) == 500
    assert not turns


def test_the_model_of_a_request_has_its_passes_timed(model):
    async def timed():
        async with serving(model) as client:
            with client.service.request() as given:
                sequence = given.sequence("x", max_new_tokens=1)
                await asyncio.to_thread(given.engine.step, [sequence])
            return client.service.metrics.text().decode()

    assert 'diffutron_pass_seconds_count{kind="full"} 1.0' in asyncio.run(timed())
