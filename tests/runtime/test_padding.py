"""Passes padded to few shapes: the same predictions, and how many shapes there are."""

import numpy as np
import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import OptionError
from diffutron_ort.runtime import padding
from diffutron_ort.runtime.contract import PassInput
from diffutron_ort.runtime.session import Session
from diffutron_ort.sampler.canvas import for_generation
from diffutron_ort.sampler.engine import denoise


@pytest.fixture(scope="module")
def plain() -> Session:
    return Session(load_bundle(), threads=1)


class Bucketed(Session):
    """A session that pads as it would on a GPU, and notes the shapes that it runs."""

    _in_buckets = True

    def __init__(self, *args, **options):
        self.shapes = set()
        super().__init__(*args, **options)

    def _run_bound(self, batch, names):
        past = batch.past.position_ids.shape if batch.past else None
        self.shapes.add((batch.input_ids.shape, batch.rows.shape, batch.seen_ids.shape, past))
        return super()._run_bound(batch, names)


@pytest.fixture
def bucketed() -> Bucketed:
    return Bucketed(load_bundle(), threads=1)


def batch_of(size, seq, rows, seen=3):
    ids = np.random.default_rng(seq).integers(5, 300, size=(size, seq))
    places, ones = np.tile(np.arange(seq), (size, 1)), np.ones(size, np.float32)
    return PassInput(ids, places, np.array(rows, np.int64), ids[:, :seen], 1.3 * ones, ones)


def test_shapes_by_hand() -> None:
    batch = padding.pad_to_bucket(batch_of(2, 33, [0, 32, 33, 65], seen=9))
    assert batch.input_ids.shape == batch.position_ids.shape == (2, 64)
    assert (batch.position_ids[:, 33:] == -1).all()
    assert batch.rows.tolist() == [0, 32, 64, 96, 96, 96, 96, 96]
    assert batch.seen_ids.shape == (2, 16)
    assert (batch.seen_ids[:, 9:] == batch.seen_ids[:, 8:9]).all()


@pytest.mark.parametrize("rows", [[], [3], [0, 5, 40, 41, 44, 60, 61, 62, 79]])
def test_the_same_predictions(plain: Session, bucketed: Bucketed, rows: list[int]) -> None:
    expected, found = (session(batch_of(2, 40, rows), logits=True) for session in (plain, bucketed))
    for name in ("top_logits", "rest", "rest_tempered", "entropy", "logits"):
        assert getattr(found, name).shape == getattr(expected, name).shape
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=2e-4, atol=1e-4)
    np.testing.assert_array_equal(found.top_ids[:, 0], expected.top_ids[:, 0])


@pytest.mark.parametrize("cache", ["none", "block"])
def test_whole_generations_in_few_shapes(plain: Session, bucketed: Bucketed, cache: str) -> None:
    """The kept keys and values are as long as the padded pass, and so are their places."""
    config = GenerationConfig(steps=64, temperature=0, cache=cache, early_end=False)
    special, prompts = load_bundle().special, ([9, 10, 11], list(range(20, 43)), list(range(50, 61)))
    for prompt in prompts:
        canvas = for_generation(prompt, 64, special.mask)
        expected, found = ([s for _, s in denoise(f, [canvas], config, special)] for f in (plain, bucketed))
        assert [step.ids.tolist() for step in found] == [step.ids.tolist() for step in expected]
    assert len(bucketed.shapes) <= 20  # of 192 passes over three lengths, with 1 to 32 rows and 3 to 80 seen ids


def test_int8_is_refused_where_it_has_no_products() -> None:
    with pytest.raises(OptionError, match="variant 'int8' runs on cpu only, not on cuda: use variant fp32, or leave"):
        Session(load_bundle(), "int8", providers="cuda")
