"""Refuse a tokenizer.json whose pipeline may hang or exhaust the memory, before it sees a text."""

import json
import math
import time

import pytest

from diffutron_ort.errors import BundleError
from diffutron_ort.text.tokenizer import Tokenizer
from diffutron_ort.text.tokenizer_guard import Pipeline, check_pipeline
from tests.text.tokenizer_files import METASPACE, REPLACE, SPECIAL, SPLIT, STRIP, build, specification, tokenizer_of

DOUBLING = [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}]
UNBOUNDED = {
    "regular expression": {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}},
    "regular expression, or": {"pre_tokenizer": SPLIT | {"pattern": {"Regex": "(a|a)*$"}}},
    "has a Replace with a regular": {"decoder": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}},
    "or an empty pattern": {"normalizer": REPLACE | {"pattern": {"String": ""}}},
    "1e[+]06 times longer": {"normalizer": REPLACE | {"content": "▁" * 10**6}},
    "normalizer can make a text 1.6": {"normalizer": {"type": "Sequence", "normalizers": DOUBLING * 14}},
    "has 20 steps": {"normalizer": {"type": "Sequence", "normalizers": DOUBLING * 20}},
    "has 24 steps": {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": DOUBLING * 8}] * 3}
    },
    "a text 1e[+]05 times": {"normalizer": {"type": "Prepend", "prepend": "a" * 10**5}},
    "decoder can make a text": {"decoder": REPLACE | {"pattern": {"String": "▁"}, "content": " " * 1000}},
    "a step CTC": {"decoder": {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}},
    'prepend_scheme "first"': {"pre_tokenizer": METASPACE | {"prepend_scheme": "first"}},
}


@pytest.mark.parametrize("found", UNBOUNDED)
def test_a_pipeline_that_may_hang_or_exhaust_memory_is_refused_before_it_runs(found):
    begun = time.process_time()
    with pytest.raises(BundleError, match=f"^tokenizer.json: its .*{found}.*; export the model again$"):
        build(**UNBOUNDED[found])
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("hidden", [False, True])
def test_a_normalizer_that_runs_while_loading_is_checked_first(hidden):
    changed = specification()
    changed["added_tokens"][-1] |= {"content": "a" * 9, "normalized": True}
    changed["normalizer"] = {"type": "Sequence", "normalizers": DOUBLING * 15}
    content = json.dumps(changed)
    content = content.replace('"normalized"', '"norm\\u0061lized"') if hidden else content
    begun = time.process_time()
    with pytest.raises(BundleError, match="its normalizer can make a text 3.28e[+]04 times longer"):
        Tokenizer(content.encode(), "tokenizer.json", 10**4, SPECIAL)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("step", [5, "x", {}, {"type": 5}, {"type": "Sequence"}, {"type": "Replace"}, [[]]])
def test_a_malformed_step_is_refused(step):
    changed = specification() | {"normalizer": step}
    changed["added_tokens"][-1]["normalized"] = True
    with pytest.raises(BundleError, match=r"^tokenizer\.json"):
        tokenizer_of(changed)


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        ({}, Pipeline("never", False, 1)),
        ({"normalizer": {"type": "NFC"}, "pre_tokenizer": SPLIT}, Pipeline("never", False, 4)),
        ({"normalizer": {"type": "Prepend", "prepend": "▁"}, "decoder": STRIP}, Pipeline("always", True, 1)),
        ({"pre_tokenizer": METASPACE, "decoder": METASPACE}, Pipeline("missing", True, 1)),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, Pipeline("missing", False, 1)),
        ({"normalizer": REPLACE | {"pattern": {"String": "abc"}}}, Pipeline("never", False, 3)),
        ({"normalizer": REPLACE | {"content": ""}}, Pipeline("never", False, math.inf)),
        ({"pre_tokenizer": SPLIT | {"behavior": "Removed"}}, Pipeline("never", False, math.inf)),
    ],
)
def test_a_pipeline_is_described(components, expected):
    assert check_pipeline(components) == expected
