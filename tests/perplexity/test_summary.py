"""The figures of many documents."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from diffutron_ort.errors import InputError
from diffutron_ort.perplexity.result import Result
from diffutron_ort.perplexity.summary import summarised
from diffutron_ort.scoring.score import Score


def result(*logprobs, size=10, error=None):
    """Return the result of a document whose tokens have these log-probabilities."""
    score = Score(
        method="pll" if error is None else "elbo",
        logprob=sum(logprobs),
        ids=np.arange(len(logprobs)),
        logprobs=np.array(logprobs, np.float64),
        bytes=size,
        joined=False,
        context_tokens=0,
        context_cut=0,
        standard_error=error,
        passes=len(logprobs),
    )
    return Result("a", score)


def test_every_token_counts_the_same():
    summary = summarised([result(-1.0), result(-2.0, -3.0, -2.0, size=30)])
    assert (summary.documents, summary.tokens, summary.bytes, summary.passes) == (2, 4, 40, 4)
    assert (summary.logprob, summary.nats_per_token, summary.perplexity) == (-8, 2, math.exp(2))
    assert summary.bits_per_byte == pytest.approx(8 / math.log(2) / 40)
    assert summary.standard_error == pytest.approx(math.sqrt((1 + 1) * 2) / 4)
    assert summary.perplexity_error == pytest.approx(math.exp(2) * summary.standard_error)
    assert summary.sampling_error is None


def test_the_masks_error_stands_beside_that_over_documents_and_in_for_it():
    alone = summarised([result(-1.0, -3.0, error=0.5)])
    assert (alone.standard_error, alone.sampling_error) == (0.25, 0.25)
    assert alone.bits_per_byte_error == pytest.approx(0.5 / math.log(2) / 10)
    two = summarised([result(-1.0, -3.0, error=0.3), result(-4.0, error=0.4)])
    assert two.sampling_error == pytest.approx(0.5 / 3)
    assert two.standard_error == summarised([result(-1.0, -3.0), result(-4.0)]).standard_error


def test_documents_without_a_text_and_those_that_failed_are_counted_and_nothing_else():
    given = [result(-1.0), Result("b"), Result("c", error=InputError("x")), result(-2.0)]
    summary = summarised(given)
    assert (summary.documents, summary.empty, summary.failed) == (2, 1, 1)
    assert summary.nats_per_token == 1.5


def test_tokens_that_cannot_be_written_are_counted_and_left_out():
    summary = summarised([result(-1.0, -math.inf, -2.0, error=0.5), result(-3.0, error=0.5)])
    assert (summary.tokens, summary.impossible_tokens) == (3, 1)
    assert summary.nats_per_token == 2
    assert summary.sampling_error is None  # that of the first document would be infinite


def test_without_a_token_there_are_no_figures():
    summary = summarised([Result("a"), result()])
    figures = (summary.nats_per_token, summary.standard_error, summary.sampling_error, summary.perplexity)
    assert figures == (None, None, None, None)


def test_what_floating_point_cannot_hold_is_infinite_and_not_an_error():
    assert summarised([result(-5000.0)]).perplexity == math.inf
    json.dumps(asdict(summarised([result(-5000.0)])), allow_nan=False)
