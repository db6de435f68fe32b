"""Choices: their arithmetic by hand, the laws of orders and lengths, nano's own questions, and bad input."""

from itertools import permutations

import numpy as np
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.choosing.chooser import levelled
from diffutron_ort.choosing.question import Question, orders
from diffutron_ort.errors import ContextError, InputError, OptionError
from diffutron_ort.scoring.passage import Passage
from diffutron_ort.scoring.work import finished
from tests.passes import predicted

LIKES = {"var": 3.0, "yok": 2.0, "sağ": 1.0, "sol": 0.0}  # words of one token
WORDS = [f" {word}" for word in LIKES]
BIAS = 4.0


class Says:
    """A model with a fixed logit for some tokens; it likes best what is listed first, if it is biased."""

    batch_invariant = True

    def __init__(self, vocab, logits, bias=0.0):
        self._row, self._bias = np.zeros(vocab, np.float32), bias
        self._ids = np.array([*logits])
        self._row[self._ids] = [*logits.values()]

    def __call__(self, batch):
        sequences = batch.rows // batch.input_ids.shape[1]
        return predicted(np.array([self._said(batch.input_ids[i]) for i in sequences]), batch)

    def _said(self, ids):
        row, listed = self._row.copy(), ids[np.isin(ids, self._ids)]
        row[listed[:1]] += self._bias
        return row


@pytest.fixture
def says(model):
    def made(likes=LIKES, bias=0.0):
        encoded = {word: model.tokenizer.encode(word) for word in likes}
        assert all(len(ids) == 1 for ids in encoded.values())
        forward = Says(model.bundle.vocab_size, {encoded[word][0]: logit for word, logit in likes.items()}, bias)
        return Diffutron(model.bundle, model.tokenizer, forward)

    return made


def softmax(values):
    exponents = np.exp(np.array(values) - max(values))
    return exponents / exponents.sum()


def test_probabilities_are_the_softmax_of_the_likelihoods(says):
    found = says().choose("ev", WORDS, template=False)
    expected = softmax([*LIKES.values()])
    assert found.probabilities == pytest.approx(expected, abs=1e-6)
    assert (found.best, found.index, str(found)) == (" var", 0, " var")
    assert found.confidence == pytest.approx((4 * expected[0] - 1) / 3, abs=1e-6)
    assert [score.tokens for score in found.scores] == [1] * 4


@pytest.mark.parametrize(("normalise", "sizes"), [("none", (1, 1)), ("tokens", (1, 3)), ("bytes", (4, 12))])
def test_what_a_likelihood_is_divided_by(says, normalise, sizes):
    words = [" var", " yok sol yok"]
    found = says().choose("ev", words, template=False, normalise=normalise)
    logprobs = [score.logprob for score in found.scores]
    assert found.probabilities == pytest.approx(softmax(np.divide(logprobs, sizes)), abs=1e-6)


def test_words_of_the_question_are_not_punished_unless_asked(says):
    plain = says().choose("ev var", WORDS, template=False)
    assert plain.probabilities == pytest.approx(softmax([*LIKES.values()]), abs=1e-6)
    punished = says().choose("ev var", WORDS, template=False, repetition_penalty=3.0)
    assert punished.best == " yok"


@pytest.mark.parametrize("count", [2, 3, 4])
def test_debias_makes_the_order_of_the_options_immaterial(says, count):
    model, words = says(bias=BIAS), [*LIKES][:count]
    question = "ev{options}:"
    turned = [words[1:] + words[:1], words]
    biased, fair = (
        [
            dict(zip(given, model.choose(question, [f" {word}" for word in given], template=False, debias=debias,
                                         separator="").probabilities, strict=True))
            for given in turned
        ]
        for debias in (False, True)
    )  # fmt: skip
    assert biased[0][words[0]] < biased[1][words[0]] - 0.1
    assert fair[0] == pytest.approx(fair[1], abs=1e-6)
    assert [fair[1][word] for word in words] == pytest.approx(softmax([*LIKES.values()][:count]), abs=1e-6)


def test_orders_are_all_of_a_few_options_and_the_rotations_of_more():
    assert [*map(sorted, map(orders, (1, 2, 3)))] == [[*permutations(range(count))] for count in (1, 2, 3)]
    assert orders(4) == [(0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2)]
    assert all(sorted(column) == [*range(255)] for column in zip(*orders(255), strict=True))


def test_the_options_are_listed_in_messages_too_and_shown_in_the_order_given(says):
    messages = [{"role": "system", "content": "{options}"}, {"role": "user", "content": "ev {options}"}]
    found = says(bias=BIAS).choose(messages, [*LIKES], debias=True)
    assert found.by_order.shape == (4, 4)
    assert found.by_order.sum(axis=1) == pytest.approx(1)
    assert len(found.scores) == 4


def test_descriptions_are_listed_and_not_scored(model):
    asked = {"evet": "doğru", "hayır": None}
    described = model.choose("doğru mu: {options}", asked, separator=" | ")
    spelt = model.choose("doğru mu: evet: doğru | hayır", ["evet", "hayır"])
    assert described.probabilities.tolist() == spelt.probabilities.tolist()
    assert described.options == ("evet", "hayır")


def test_an_answer_in_the_template_is_whole_and_on_a_canvas_as_long_as_the_longest(model):
    pad = model.bundle.special.pad
    short, long = model.choose("On iki artı beş kaç eder?", ["on yedi", "yüz on yedi buçuk"]).scores
    assert short.tokens == long.tokens
    assert short.ids.tolist().count(pad) == len(model.tokenizer.encode("yüz on yedi buçuk")) - 2
    assert pad not in long.ids
    raw = model.choose("ev", [" on yedi", " yüz on yedi buçuk"], template=False).scores
    assert raw[0].tokens < raw[1].tokens


def test_levelled_passages_keep_their_tokens_and_give_each_pad_a_word_of_its_own():
    one, two = (Passage(np.arange(n) + 5, 2, np.arange(n) // 2) for n in (4, 7))
    filled, whole = levelled([one, two], 0)
    assert filled.ids.tolist() == [5, 6, 7, 8, 0, 0, 0]
    assert filled.words.tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert whole.ids.tolist() == two.ids.tolist()


@pytest.mark.parametrize("method", ["policy", "elbo", "pll", "pll_word_l2r"])
def test_nano_knows_the_sum_by_every_method(model, method):
    options = ["on altı", "on yedi", "yirmi yedi", "elli"]
    found = model.choose("On iki artı beş kaç eder?", options, method=method, samples=8)
    assert found.best == "on yedi"
    assert found.probabilities[1] > 0.9
    assert found.probabilities.sum() == pytest.approx(1)


def test_yes_no_and_scale(says):
    model = says({"var": 2.0, "yok": 1.0, "sol": 0.0})
    yes = model.yes_no("ev", yes=" var", no=" yok", template=False)
    assert yes == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)
    levels = [" sol", " yok", " var"]
    found = model.scale("ev", levels, template=False)
    assert found.levels == tuple(levels)
    assert found.mean == pytest.approx(softmax([0, 1, 2]) @ [0, 1, 2], abs=1e-6)
    assert model.scale("ev", levels, values=(-1, 0, 10), template=False).mean == pytest.approx(
        softmax([0, 1, 2]) @ [-1, 0, 10], abs=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        (("x", []), {}, InputError, "there are 0"),
        (("x", [str(n) for n in range(256)]), {}, InputError, "there are 256"),
        (("x", "evet"), {}, InputError, "list of texts"),
        (("x", ["a", 5]), {}, InputError, r"options\[1\]"),
        (("x", {"a": 5}), {}, InputError, "description of 'a'"),
        (("x", ["a", "\ud800"]), {}, InputError, r"options\[1\]"),
        (("x", ["a", " \u200b"]), {}, InputError, r"options\[1\] has no text"),
        (("x", ["ğ", "g\u0306 "]), {}, InputError, r"same answer as options\[0\]"),
        ((" ", ["a"]), {}, InputError, "no text"),
        ((7, ["a"]), {}, InputError, "question=7"),
        (([], ["a"]), {}, InputError, "question="),
        (([{"role": "user"}], ["a"]), {}, InputError, "message 0"),
        (("söz " * 300, ["a"]), {}, ContextError, "context is 256"),
        (("x", ["a", "söz " * 300]), {}, ContextError, r"options\[1\]"),
        (("x", ["a"]), {"debias": True}, OptionError, "{options}"),
        (("x", ["a"]), {"debias": 1}, OptionError, "debias=1"),
        (("x", ["a"]), {"separator": 1}, OptionError, "separator=1"),
        (("x", ["a"]), {"normalise": "words"}, OptionError, "normalise='words'"),
        (("x", ["a"]), {"normalise": ["bytes"]}, OptionError, "normalise="),
        (("x", ["a"]), {"method": "x"}, OptionError, "method='x'"),
        (("x", ["a"]), {"temperature": 1.0}, OptionError, "temperature"),
        (("x", ["a"]), {"max_new_tokens": 3}, OptionError, "max_new_tokens"),
        (("x", ["evet", "hayır"]), {"suppress_tokens": list(range(5, 2023))}, InputError, "none of the options"),
    ],
)
def test_bad_input_is_named(model, arguments, options, error, said):
    with pytest.raises(error, match=said) as raised:
        model.choose(*arguments, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("values", [[1], [1, float("inf")], [1, 10**400], ["1", "2"], "12", 5, [True, False]])
def test_bad_values_of_levels_are_named(model, values):
    with pytest.raises(InputError, match="2 finite numbers"):
        model.scale("x", ["a", "b"], values=values)


def test_a_scale_has_one_order(model):
    with pytest.raises(OptionError, match="stand in order"):
        model.scale("x {options}", ["a", "b"], debias=True)


def test_an_option_that_cannot_be_written_has_probability_zero(model):
    banned = model.tokenizer.encode("elli")
    found = model.choose("On iki artı beş kaç eder?", ["on yedi", "elli"], suppress_tokens=banned)
    assert found.probabilities.tolist() == [1.0, 0.0]


def test_several_questions_are_answered_as_each_is_alone(model):
    asked = {"renk": ("Kar beyaz mıdır?", ["evet", "hayır"]), "yer": ("Başkent?", ["Ankara", "Van", "İzmir"])}
    found = finished(model.choosing_each({name: Question(*each) for name, each in asked.items()}))
    assert list(found) == ["renk", "yer"]
    for name, each in asked.items():
        np.testing.assert_array_equal(found[name].probabilities, model.choose(*each).probabilities)


@pytest.mark.parametrize("questions", [[], "x", {"x": "Kar beyaz mıdır?"}, {"x": None}])
def test_what_is_no_question_is_refused(model, questions):
    with pytest.raises(InputError, match="must be a dict with a Question for each name"):
        model.choosing_each(questions)
