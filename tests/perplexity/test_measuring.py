"""Documents that are scored one after the other."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.errors import InputError, NumericsError, OptionError
from diffutron_ort.perplexity.documents import Document
from diffutron_ort.perplexity.measuring import SAMPLES, measured
from diffutron_ort.sampler.engine import BATCH_SIZE
from tests.bulk.fakes import not_a_number, watched

SENTENCES = ["Türkiye'nin başkenti Ankara şehridir.", "Sığ sözcüğünün karşıtı derin sözcüğüdür.", "Salı"]
FEW = {"samples": 4}


def test_a_document_comes_to_the_score_of_its_text_with_the_seed_of_its_place(model):
    for how in ({"method": "elbo", "samples": 4, "seed": 7}, {"method": "pll"}, {"method": "policy"}):
        found = list(measured(model, SENTENCES, **how))
        for i, (result, text) in enumerate(zip(found, SENTENCES, strict=True)):
            own = how | ({"seed": 7 + i} if "seed" in how else {})
            np.testing.assert_allclose(result.score.logprobs, model.score(text, **own).logprobs, rtol=1e-4, atol=1e-5)
    usual, other = (model.score(SENTENCES[0], method="elbo", samples=samples) for samples in (SAMPLES, SAMPLES + 2))
    score = next(measured(model, SENTENCES[:1])).score
    assert (score.logprob, score.passes) == (pytest.approx(usual.logprob, rel=1e-5), usual.passes)
    assert usual.logprob != pytest.approx(other.logprob, rel=1e-5)


def test_documents_without_a_text_take_no_seed_and_no_pass(model):
    given = ["", SENTENCES[0], " \n", Document("x", error=InputError("unread")), SENTENCES[1]]
    found = list(measured(model, given, **FEW))
    assert [result.score is None for result in found] == [True, False, True, True, False]
    assert [result.name for result in found] == ["document 0", "document 1", "document 2", "x", "document 4"]
    assert str(found[3].error) == "unread"
    plain = list(measured(model, [SENTENCES[0], SENTENCES[1]], **FEW))
    assert [found[1].logprob, found[4].logprob] == pytest.approx([each.logprob for each in plain], rel=1e-5)


def test_a_document_that_fails_fails_alone_and_changes_no_other(model):
    wrong, graph = watched(model, not_a_number)
    given = [SENTENCES[0], "zzz", 5, "\ud800", SENTENCES[1]]
    found = list(measured(wrong, given, **FEW))
    assert [type(result.error) for result in found] == [type(None), NumericsError, InputError, InputError, type(None)]
    right = list(measured(model, [SENTENCES[0], "zzz", SENTENCES[1]], **FEW))
    assert [found[0].logprob, found[4].logprob] == pytest.approx([right[0].logprob, right[2].logprob], rel=1e-5)
    assert max(graph.sizes) > FEW["samples"]


def test_a_bounded_number_of_documents_is_read_ahead(model):
    read = []
    endless = (read.append(i) or "Salı" for i in range(1000))
    results = measured(model, endless, **FEW)
    for _ in range(BATCH_SIZE + 1):
        next(results)
    assert len(read) <= 2 * BATCH_SIZE + 1
    long = (read.append(i) or "Salı " * 1000 for i in range(1000))
    read.clear()
    next(measured(model, long, method="policy", steps=1))
    assert len(read) == 2


def test_what_is_done_of_those_at_hand_is_reported(model):
    shares = []
    list(measured(model, SENTENCES, method="policy", report=shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_there_is_no_penalty_unless_it_is_asked_for(model):
    options = MappingProxyType({**model.bundle.options, "repetition_penalty": 1.5})
    punishing = Diffutron(replace(model.bundle, options=options), model.tokenizer, model.forward)
    text = "Salı Salı Salı"

    def logprob(**how):
        return next(measured(punishing, [text], method="policy", **how)).logprob

    assert logprob() == pytest.approx(model.score(text).logprob)
    assert logprob(repetition_penalty=1.5) == pytest.approx(punishing.score(text).logprob)
    assert logprob() != pytest.approx(punishing.score(text).logprob)


@pytest.mark.parametrize("how", [{"method": "x"}, {"samples": 1}, {"stride": 0}, {"steps": 3}, {"preset": "fast"}])
def test_wrong_options_are_errors_and_no_failed_documents(model, how):
    with pytest.raises(OptionError):
        list(measured(model, SENTENCES, **how))
