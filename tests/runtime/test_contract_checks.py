"""Graphs that return what no denoiser, and no generation, can return: errors of ours that name the output."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import BundleError, DiffutronError, NumericsError, ProviderError
from diffutron_ort.runtime import contract_checks
from diffutron_ort.runtime import session as session_module
from diffutron_ort.runtime.contract import REDUCTIONS, Predictions
from diffutron_ort.runtime.generation import Generation
from diffutron_ort.runtime.session import Session
from diffutron_ort.sampler.sampling import odds_against
from tests.passes import pass_input

ROWS, K, COLUMNS, VOCABULARY = 31, 64, 2023, 2023


class Lying:
    """A session of ONNX Runtime whose outputs are altered."""

    def __init__(self, session, changes):
        self.session, self.changes = session, changes

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, names, feeds):
        found = dict(zip(names, self.session.run(names, feeds), strict=True))
        return [self.changes[n](v) if n in self.changes else v for n, v in found.items()]

    def io_binding(self):
        return Binding(self.session.io_binding(), self.changes)

    def run_with_iobinding(self, binding):
        self.session.run_with_iobinding(binding.binding)


class Binding:
    """A binding of ONNX Runtime whose outputs are altered."""

    def __init__(self, binding, changes):
        self.binding, self.changes, self.names = binding, changes, []

    def __getattr__(self, name):
        return getattr(self.binding, name)

    def bind_output(self, name, *device):
        self.names.append(name)
        self.binding.bind_output(name, *device)

    def get_outputs(self):
        return [self._altered(*output) for output in zip(self.names, self.binding.get_outputs(), strict=True)]

    def _altered(self, name, value):
        return SimpleNamespace(numpy=lambda: self.changes[name](value.numpy())) if name in self.changes else value


@pytest.fixture(scope="module")
def honest():
    return Diffutron.from_pretrained(threads=1)


def lying(model, **changes):
    """Return a model whose graph lies."""
    session = Session(model.bundle, threads=1)
    session._session = Lying(session._session, changes)
    return Diffutron(model.bundle, model.tokenizer, session)


SHAPES = {
    "no candidates": lambda v: v[:, :0],
    "no rows": lambda v: v[:0],
    "a row less": lambda v: v[:-1],
    "a row more": lambda v: np.concatenate([v, v[:1]]),
    "an axis more": lambda v: v[None],
    "no axes": lambda v: v.dtype.type(0),
    "none": lambda v: None,
    "a list": lambda v: v.tolist(),
    "texts": lambda v: np.full(v.shape, "x", object),
    "float64": lambda v: v.astype(np.float64),
    "int32": lambda v: v.astype(np.int32),
    "booleans": lambda v: v.astype(bool),
}


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", [*REDUCTIONS, "target_logits", "logits"])
def test_an_output_of_another_type_or_shape_is_named(honest, name, change):
    if name not in ("top_ids", "top_logits", "logits") and change is SHAPES["no candidates"]:
        change = SHAPES["no rows"]  # it has no axis of candidates, or nothing on it
    options = {"cfg_scale": 0.5} if name == "logits" else {}
    model = lying(honest, **{name: change})
    said = "top_ids|top_logits" if name in ("top_ids", "top_logits") else name
    with pytest.raises(BundleError, match=rf"denoiser\.onnx returned ({said}) as .*, not (int64|float32) \["):
        model.generate("x", steps=4, max_new_tokens=8, temperature=1.0, **options)


def test_ids_that_are_none_are_refused(honest):
    for value in (VOCABULARY, -1, 2**62, -(2**63)):
        model = lying(honest, top_ids=lambda v, value=value: np.full_like(v, value))
        with pytest.raises(BundleError, match="top_ids that are not below 2023"):
            model.generate("x", steps=2, max_new_tokens=4)


def test_candidates_may_be_fewer_but_not_more_than_there_are_pieces():
    zeros = np.zeros
    predictable = np.ones(10, bool)
    predictable[3] = False
    floats, batch = (zeros(2, np.float32),) * 3, pass_input(zeros((1, 2), np.int64), zeros((1, 2), np.int64), [0, 1])

    def predictions(k, ids=0):
        top_ids = np.full((2, k), ids)
        return Predictions(top_ids, zeros((2, k), np.float32), *floats, zeros((2, 0), np.float32))

    for k in (1, 9):
        contract_checks.check_predictions(predictions(k), batch, predictable, "p")
    for k in (0, 10, 64):
        with pytest.raises(BundleError, match="top_ids"):
            contract_checks.check_predictions(predictions(k), batch, predictable, "p")
    with pytest.raises(BundleError, match="output vocabulary"):
        contract_checks.check_predictions(predictions(4, ids=3), batch, predictable, "p")


@pytest.mark.filterwarnings("error")
def test_a_token_may_be_so_unlikely_that_the_odds_against_it_are_infinite():
    chosen, best = np.array([-800.0, 0.0, -740.0], np.float32), np.zeros(3, np.float32)
    assert odds_against(chosen, best, np.full(3, 2e15)).tolist() == [np.inf, 2e15, np.inf]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("cfg_scale", "temperature"), [*itertools.product((0.0, 50.0, 1000.0), (0.0, 100.0, 1000.0))])
def test_extreme_options_raise_no_warning(honest, cfg_scale, temperature):
    for penalty in (0.001, 1.0, 1000.0):
        options = {"cfg_scale": cfg_scale, "temperature": temperature, "repetition_penalty": penalty}
        assert isinstance(honest.generate("On iki", steps=3, max_new_tokens=6, **options), str)


class Value:
    """What stands for a value in ONNX Runtime's memory."""

    def __init__(self, kind, shape):
        self.kind, self.size = kind, shape

    def data_type(self):
        return self.kind

    def shape(self):
        return self.size


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("tensor(float16)", [1, 40, 256]),
        ("tensor(float)", [1, 41, 256]),
        ("tensor(float)", [2, 40, 256]),
        ("tensor(float)", [1, 40, 255]),
        ("tensor(float)", [6, 1, 40, 256]),
        ("tensor(float)", []),
    ],
)
@pytest.mark.parametrize("which", [0, 7, 11])
def test_keys_and_values_have_the_passes_shape(honest, monkeypatch, kind, shape, which):

    def check_kept(values, sizes, path):
        lies = [sizes["seq"] + size - 40 if axis == len(shape) - 2 else size for axis, size in enumerate(shape)]
        contract_checks.check_kept([*values[:which], Value(kind, lies), *values[which + 1 :]], sizes, path)

    monkeypatch.setattr(session_module, "check_kept", check_kept)
    name = rf"{('key', 'value')[which % 2]}\.{which // 2}"
    with pytest.raises(BundleError, match=rf"returned {name} as tensor\(float.*, not float32 \[1, "):
        honest.generate("x", cache="block", max_new_tokens=40, block_length=8)


@pytest.mark.parametrize("name", ["top_logits", "rest", "rest_tempered", "entropy"])
def test_numbers_that_are_none_are_an_error_of_ours(honest, name):
    for value in (np.nan, np.inf, -np.inf):
        model = lying(honest, **{name: lambda v, value=value: np.full_like(v, value)})
        with pytest.raises(NumericsError, match="not finite"):
            model.generate("x", steps=2, max_new_tokens=4, commit="entropy")


def test_entropies_that_nobody_wants_are_not_looked_at(honest):
    model = lying(honest, entropy=lambda v: np.full_like(v, np.nan))
    question, options = "On iki artı beş kaç eder?", {"cache": "block", "block_length": 16}
    assert model.generate(question, **options) == honest.generate(question, **options) == "on yedi"
    with pytest.raises(NumericsError, match="not finite"):
        model.generate(question, refresh_entropy=0.5, **options)


def test_sums_below_zero_and_candidates_out_of_order_are_an_error_of_ours(honest):
    for name, change in (
        ("rest", lambda v: -v - 1),
        ("rest_tempered", lambda v: -v - 1),
        ("top_logits", lambda v: v[:, ::-1].copy()),
    ):
        with pytest.raises(NumericsError, match="contradict one another"):
            lying(honest, **{name: change}).generate("x", steps=2, max_new_tokens=4)


@pytest.mark.filterwarnings("error")
def test_finite_lies_never_raise_what_is_not_ours(honest):
    rng, odd = np.random.default_rng(0), [0, 1, -1, 1e30, -1e30, 1e-30, 700]
    for _ in range(60):
        name = rng.choice(["top_logits", "rest", "rest_tempered", "entropy"])
        value = rng.choice(odd)
        model = lying(
            honest, **{name: lambda v, value=value: np.where(rng.random(v.shape) < 0.5, v, np.float32(value))}
        )
        try:
            text = model.generate("x", steps=3, max_new_tokens=6, temperature=1.0, seed=int(rng.integers(9)))
        except DiffutronError:
            continue
        assert isinstance(text, str)


def test_the_honest_graph_passes_with_all_its_outputs(honest):
    assert honest.generate("On iki artı beş kaç eder?", suppress_tokens=(9,), cache="block") == "on yedi"


GENERATED = {
    "ids": {
        "too short": lambda v: v[:, :-1],
        "too long": lambda v: np.concatenate([v, v], axis=1),
        "another axis": lambda v: v[0],
        "none": lambda v: None,
        "int32": lambda v: v.astype(np.int32),
        "beyond the vocabulary": lambda v: v + VOCABULARY,
        "negative": lambda v: v - VOCABULARY,
    },
    "answer_length": {
        "negative": lambda v: v - 2**40,
        "beyond": lambda v: v + 2**40,
        "an array": lambda v: v[None],
        "text": lambda v: np.array("x", object),
    },
    "steps_taken": {"negative": lambda v: -v, "an array": lambda v: v[None], "float": lambda v: v.astype(np.float32)},
}


@pytest.mark.parametrize(("name", "what"), [(name, what) for name, changes in GENERATED.items() for what in changes])
def test_a_generation_that_cannot_be_is_refused(name, what):
    generation = Generation(load_bundle(), threads=1)
    real = generation._session
    generation._session = Lying(real, {name: GENERATED[name][what]})
    config = Diffutron.from_pretrained().config(max_new_tokens=8, steps=4)
    with pytest.raises(BundleError, match=r"generate\.onnx returned"):
        generation([5, 6], config)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("x" * 10**5), IndexError("foreign"), TypeError("foreign")]
)
def test_whatever_onnxruntime_raises_is_an_error_of_ours(honest, error):
    def fail(*_):
        raise error

    model = lying(honest)
    model.forward._session.run_with_iobinding = model.forward._session.run = fail
    generation = Generation(load_bundle(), threads=1)
    generation._session = model.forward._session
    for call in (lambda: model.generate("x"), lambda: generation([5], model.config())):
        with pytest.raises(ProviderError) as caught:
            call()
        assert len(str(caught.value)) < 800
        assert isinstance(error, MemoryError) == ("not enough memory" in str(caught.value))


def test_too_little_memory_for_numpy_is_an_error_of_ours(honest, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("diffutron_ort.sampler.sampling.reduce_logits", fail)
    with pytest.raises(ProviderError, match="not enough memory"):
        honest.generate("x", cfg_scale=0.5)
