"""Run a few mutants of every file, and check that the fuzzer itself detects failures."""

import os
import time
from random import Random

import pytest

from diffutron_ort.errors import BundleError

from .mutate import mutated_bytes, mutated_json, mutated_safetensors
from .supervise import Failure, Target, fuzz, mutant, outcome
from .targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_mutants_of_each_file(name):
    outcomes = list(fuzz(TARGETS[name], 0, seconds=600, most=60, patience=120))  # on however busy a machine
    assert [found for found in outcomes if isinstance(found, Failure)] == []
    assert len(outcomes) == 60


def raises(error):
    def run(content):
        raise error

    return run


def test_a_foreign_exception_is_a_failure():
    assert outcome(raises(KeyError("x")), b"").startswith("Traceback")
    assert outcome(raises(BundleError("x")), b"") is None
    assert outcome(len, b"") is None


def first_is_fine():
    return lambda content: None if content == b"first" else BAD[content]()


BAD = {b"hang": lambda: time.sleep(10**6), b"die": lambda: os._exit(3), b"memory": lambda: bytearray(3 * 2**30)}


@pytest.mark.parametrize(("what", "error"), [("die", "the process died"), ("memory", "MemoryError")])
def test_a_crash_or_a_full_memory_is_a_failure(what, error):
    target = Target("bad", _Seeds("first", what), _mutate, first_is_fine)
    first, second = fuzz(target, 0, seconds=600, most=2, patience=120)
    assert first == 0
    assert error in second.what
    assert second.number == 1


def test_a_hang_is_a_failure():
    target = Target("bad", _Seeds("hang"), _mutate, first_is_fine)
    [found] = fuzz(target, 0, seconds=600, most=1, patience=1)
    assert (found.number, found.what) == (0, "it took more than 1 seconds")


class _Seeds:
    """Seeds that can be pickled for another process."""

    def __init__(self, *contents):
        self.contents = contents

    def __call__(self):
        return [content.encode() for content in self.contents]


def _mutate(content, random):
    return content


def test_the_same_number_is_the_same_mutant():
    target = TARGETS["manifest"]
    assert mutant(target, 1, 5) == mutant(target, 1, 5) != mutant(target, 1, 6)
    assert mutant(target, 1, 0) == target.seeds()[0]


@pytest.mark.parametrize("mutate", [mutated_json, mutated_bytes, mutated_safetensors])
def test_mutants_differ_from_their_seed(mutate):
    content = b'{"a": [1, 2, {"b": "c"}], "d": null}'
    content = len(content).to_bytes(8, "little") + content + bytes(100) if mutate is mutated_safetensors else content
    mutants = {mutate(content, Random(seed)) for seed in range(200)}
    assert len(mutants - {content}) > 100
