"""Passes padded to few shapes: the same predictions, and how many shapes there are."""

import numpy as np
import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import OptionError
from diffutron_ort.runtime import padding
from diffutron_ort.runtime.session import Session
from diffutron_ort.sampler.canvas import for_generation
from diffutron_ort.sampler.engine import denoise
from tests.passes import pass_input


@pytest.fixture(scope="module")
def plain() -> Session:
    return Session(load_bundle(), threads=1)


class Bucketed(Session):
    """A session that pads as it would on a GPU, and notes the shapes that it runs."""

    _in_buckets = True

    def __init__(self, *args, **options):
        self.shapes = set()
        super().__init__(*args, **options)

    def _run(self, batch):
        past = batch.past.position_ids.shape if batch.past else None
        own = (batch.input_ids, batch.rows, batch.seen_ids, batch.suppress_ids, batch.target_ids)
        self.shapes.add((*(array.shape for array in own), past))
        return super()._run(batch)


@pytest.fixture
def bucketed() -> Bucketed:
    return Bucketed(load_bundle(), threads=1)


def batch_of(size, seq, rows, *, seen=3, suppressed=0, targets=0):
    """Return a pass over tokens at random that wants all; its ids and targets are other tokens of it."""
    ids = np.random.default_rng(seq).integers(5, 300, size=(size, seq))
    return pass_input(
        ids,
        np.tile(np.arange(seq), (size, 1)),
        rows,
        seen_ids=np.sort(ids[:, :seen]),
        suppress_ids=ids[:, seen : seen + suppressed],
        repetition_penalty=np.full(size, 1.3, np.float32),
        target_ids=np.arange(len(rows) * targets).reshape(len(rows), targets),
        want_logits=True,
        want_entropy=True,
    )


def test_shapes_by_hand() -> None:
    batch = padding.pad_to_bucket(batch_of(2, 33, [0, 32, 33, 65], seen=9, suppressed=1, targets=3))
    assert batch.input_ids.shape == batch.position_ids.shape == (2, 64)
    assert (batch.position_ids[:, 33:] == -1).all()
    assert batch.rows.tolist() == [0, 32, 64, 96, 96, 96, 96, 96]
    assert batch.seen_ids.shape == (2, 16)
    assert (batch.seen_ids[:, 9:] == batch.seen_ids[:, 8:9]).all()
    assert batch.suppress_ids.shape == (2, 8)
    assert (batch.suppress_ids == batch.suppress_ids[:, :1]).all()
    assert batch.target_ids.tolist() == [[3 * n, 3 * n + 1, *[3 * n + 2] * 6] for n in (0, 1, 2, 3, 3, 3, 3, 3)]


def test_what_there_is_none_of_is_not_padded() -> None:
    batch = padding.pad_to_bucket(batch_of(2, 33, [], seen=0))
    assert batch.rows.tolist() == [0] * 8
    assert batch.seen_ids.shape == batch.suppress_ids.shape == (2, 0)
    assert batch.target_ids.shape == (8, 0)


@pytest.mark.parametrize("suppressed", [0, 3])
@pytest.mark.parametrize("targets", [0, 5])
@pytest.mark.parametrize("rows", [[], [3], [0, 5, 40, 41, 44, 60, 61, 62, 79]])
def test_the_same_predictions(plain, bucketed, rows, suppressed, targets):
    given = batch_of(2, 40, rows, suppressed=suppressed, targets=targets)
    expected, found = plain(given), bucketed(given)
    assert found.target_logits.shape == (len(rows), targets)
    for name in ("top_logits", "rest", "rest_tempered", "entropy", "target_logits", "logits"):
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
