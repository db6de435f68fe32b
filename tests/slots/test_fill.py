"""Templates, filled by the embedded model and by fakes."""

import json

import numpy as np
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.errors import ContextError, InputError, OptionError
from diffutron_ort.scoring.work import finished
from diffutron_ort.slots import menu
from tests.passes import predicted
from tests.slots.many import fill_many

CAPITAL = "Türkiye'nin başkenti neresidir?"


@pytest.fixture(scope="module")
def model():
    return Diffutron.from_pretrained()


def test_random_templates_parse_and_keep_their_bounds(model):
    fill_many(model, 25, seed=7)


def test_a_value_of_unknown_length_is_found(model):
    filled = model.fill("{{şehir}}", slots={"şehir": "text"}, prompt=CAPITAL)
    assert (filled.text, filled.values, filled.data) == ("Ankara", {"şehir": "Ankara"}, None)
    assert filled.probabilities["şehir"] > 0.9
    listed = model.fill(
        "{{a}}, {{b}}, {{c}}", slots=dict.fromkeys("abc", "words"), prompt="Ters sırala: masa, elma, göz"
    )
    assert listed.text == "göz, elma, masa"
    assert model.fill("Türkiye'nin başkenti {{x}} şehridir.", slots={"x": "word"}).values == {"x": "Ankara"}


def test_the_likeliest_option_is_chosen_and_the_shares_sum_to_1(model):
    options = ["Roma", "Ankara", "Bağdat şehri", "Paris"]
    shares = []
    for chosen in options:  # at a high temperature, each comes up for some seed
        for seed in range(60):
            asked = {"slots": {"x": options}, "prompt": CAPITAL, "temperature": 30.0, "seed": seed}
            filled = model.fill("{{x}}", **asked)
            if filled.text == chosen:
                shares.append(filled.probabilities["x"])
                break
    assert sum(shares) == pytest.approx(1)
    assert model.fill("{{x}}", slots={"x": options}, prompt=CAPITAL).text == "Ankara"


def test_objects_become_json_with_numbers_and_constants(model):
    slots = {"ad": "words", "yaş": "integer", "var": [True, False, None], "not": ['"a"', "b\n{"]}
    filled = model.fill({name: f"{{{{{name}}}}}" for name in slots}, slots=slots)
    assert filled.data == json.loads(filled.text)
    assert [type(filled.data[name]) for name in ("ad", "yaş", "not")] == [str, int, str]
    assert filled.data["var"] in (True, False, None)


def test_the_same_seed_gives_the_same_text_and_temperature_0_ignores_it(model):
    def text(seed, temperature):
        return model.fill("{{a}} {{b}}", slots={"a": "text", "b": "date"}, seed=seed, temperature=temperature).text

    assert text(1, 2.0) == text(1, 2.0)
    assert len({text(seed, 2.0) for seed in range(4)}) > 1
    assert text(1, 0.0) == text(2, 0.0)


def test_steps_bound_the_passes_of_a_slot(model):
    def passes(steps):
        return model.fill("{{a}}", slots={"a": {"pattern": "digits", "least": 6, "most": 6}}, steps=steps).passes

    assert (passes(64), passes(3), passes(1)) == (6, 3, 1)


def test_a_work_runs_one_pass_at_a_time(model):
    work = model.filling("{{a}} {{b}}", {"a": "word", "b": ["x", "y z"]})
    shares = []
    while True:
        try:
            shares.append(next(work))
        except StopIteration as end:
            filled = end.value
            break
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) == filled.passes


class Stubborn:
    """A model that is certain of `<pad>` everywhere, and so of nothing that a slot may hold."""

    batch_invariant = False

    def __init__(self, vocab):
        self.vocab = vocab

    def __call__(self, batch):
        raw = np.zeros((len(batch.rows), self.vocab), np.float32)
        raw[:, 0] = 80
        return predicted(raw, batch, penalised=False)


@pytest.mark.parametrize("suppressed", [0, 2**20])
def test_many_tokens_are_looked_at_only_where_they_are_best(model, monkeypatch, suppressed):
    monkeypatch.setattr(menu, "FEW", 0)
    monkeypatch.setattr(menu, "MOST_SUPPRESSED", suppressed)
    fill_many(model, 8, seed=11)
    filled = model.fill("{{x}}", slots={"x": "letters"}, prompt=CAPITAL)
    assert (filled.text, round(filled.probabilities["x"], 1)) == ("Ankara", 1.0)
    monkeypatch.undo()
    slots = {"x": {"pattern": "letters", "least": 5, "most": 5}}  # which the model would rather end before
    sure = model.fill("{{x}}", slots=slots, prompt=CAPITAL).probabilities["x"]
    monkeypatch.setattr(menu, "FEW", 0)
    monkeypatch.setattr(menu, "MOST_SUPPRESSED", suppressed)
    assert model.fill("{{x}}", slots=slots, prompt=CAPITAL).probabilities["x"] == pytest.approx(sure, rel=0.2)


@pytest.mark.parametrize("pattern", ["text", "digits", "date", "letters"])
def test_a_model_that_wants_nothing_of_it_still_keeps_the_bounds(model, pattern):
    stubborn = Diffutron(model.bundle, model.tokenizer, Stubborn(model.bundle.vocab_size))
    filled = finished(stubborn.filling("a {{x}}{{y}}", {"x": pattern, "y": {"pattern": "letters", "least": 3}}))
    assert filled.values["x"]
    assert filled.values["y"].isalpha()


@pytest.mark.parametrize(
    ("template", "slots", "words"),
    [
        ("{{a}}", {}, "must be a dict"),
        ("{{a}}", {"b": "text"}, "has no slot"),
        ("{{a}}", {"a": "text", "b": "text"}, "has no place"),
        ("{{a}}", {"a": "digit"}, "did you mean 'digits'"),
        ("{{a}}", {"a": {"least": 3, "most": 2}}, "less than"),
        ("{{a}}", {"a": {"most": 10**9}}, "from 1 to 64"),
        ("{{a}}", {"a": {"most": True}}, "from 1 to 64"),
        ("{{a}}", {"a": {"options": []}}, "at least one"),
        ("{{a}}", {"a": ["x", "x"]}, "twice"),
        ("{{a}}", {"a": [""]}, "1 to 1000"),
        ("{{a}}", {"a": [True]}, "is no text"),
        ("{{a}}", {"a": {"size": 3}}, "is no bound"),
        ("{{a}}", {"a": {"pattern": "date", "most": 3}}, "keeps its bounds"),
        ("{{a}}", {"a": "[字]+"}, "keeps its bounds"),
        ('{"x": {{a}}}', {"a": "digits"}, "outside of quotes"),
        ('{"x": "{{a}}"}', {"a": '"+'}, "keeps its bounds"),
        ("{{a}}", {"a": {"options": ["x", "y"], "least": 5}}, "none of its options"),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused_before_any_pass(model, template, slots, words):
    with pytest.raises(OptionError, match=words):
        model.filling(template, slots)


def test_other_wrong_input_is_refused(model):
    slots = {"a": "text"}
    with pytest.raises(ContextError, match="context is 256"):
        model.filling("uzun " * 300 + "{{a}}", slots)
    with pytest.raises(ContextError, match="context is 256"):
        model.filling("x" * 10_000_000 + "{{a}}", slots)
    with pytest.raises(InputError, match="no text"):
        model.filling("{{a}}", slots, prompt=" ")
    with pytest.raises(InputError, match="surrogate"):
        model.filling("\ud800 {{a}}", slots)
    with pytest.raises(OptionError, match="of no meaning"):
        model.filling("{{a}}", slots, max_new_tokens=3)
    with pytest.raises(OptionError, match="of no meaning without slots"):
        model.fill("<mask>", prompt="x")


def test_slots_share_what_room_the_context_has(model):
    template = "a " * 235 + "".join(f"{{{{s{i}}}}}" for i in range(8))
    filled = model.fill(template, slots={f"s{i}": {"pattern": "letters", "most": 60} for i in range(8)}, steps=2)
    assert filled.completion_tokens <= 256
