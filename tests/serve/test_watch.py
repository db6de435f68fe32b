"""The watch over a service: when a server ends, and with which code."""

import signal

import pytest

from diffutron_ort.serve.processes.watch import Watch
from diffutron_ort.serve.settings import Settings
from tests.serve.fakes import FakeService


@pytest.fixture
def said():
    return []


def watch(service, said, **settings):
    return Watch(service, Settings(**settings), said.append)


def test_it_says_once_that_the_service_is_ready(said):
    service = FakeService(state="loading")
    one = watch(service, said)
    assert not one.is_over()
    assert (one.was_ready, said) == (False, [])
    service.state = "ready"
    assert not any(one.is_over() for _ in range(3))
    assert one.was_ready
    assert len(said) == 1


def test_a_failure_to_load_ends_it(said):
    service = FakeService(state="failed", failure=ValueError("no model"))
    one = watch(service, said)
    assert one.is_over()
    assert (one.code, one.failure) == (1, service.failure)


@pytest.mark.parametrize(("age", "hangs"), [(None, False), (2.0, False), (2.1, True)])
def test_a_pass_beyond_its_limit_ends_it(age, hangs, said):
    service = FakeService(pass_age=age, idle=False)
    one = watch(service, said, pass_timeout=2)
    assert one.is_over() == one.has_hung == hangs
    assert (one.code, service.calls) == ((1, ["abandon"]) if hangs else (0, []))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_told_to_end_it_waits_until_the_service_is_idle(number, code, said):
    service = FakeService(idle=False)
    one = watch(service, said)
    one.told(number)
    assert not any(one.is_over() for _ in range(3))
    service.idle = True
    assert one.is_over()
    assert (one.code, service.calls) == (code, ["drain"])


def test_it_waits_no_longer_than_the_grace(said):
    service = FakeService(idle=False)
    one = watch(service, said, grace=0)
    one.told(signal.SIGTERM)
    assert one.is_over()
    assert (one.code, service.calls) == (0, ["drain", "abandon"])
    assert "--grace" in said[-1]


def test_a_pass_that_hangs_while_it_waits_still_ends_it(said):
    service = FakeService(idle=False)
    one = watch(service, said, pass_timeout=1)
    one.told(signal.SIGTERM)
    assert not one.is_over()
    service.pass_age = 2.0
    assert one.is_over()
    assert one.has_hung
