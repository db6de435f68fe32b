"""Sequences in company: each takes the steps that it takes alone, whoever joins or leaves."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffutron_ort import Diffutron, GenerationConfig
from diffutron_ort.errors import NumericsError, ProviderError
from diffutron_ort.runtime.kv_cache import SequenceCache
from diffutron_ort.sampler.canvas import for_generation, for_infilling
from diffutron_ort.sampler.engine import Engine, run
from diffutron_ort.sampler.sequence import Sequence
from diffutron_ort.types import SpecialIds
from tests.fakes import MASK, Caching, invariant
from tests.golden.hash_model import HashModel
from tests.passes import pass_input

SPECIAL = SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=MASK)
VOCAB = 90  # more than the 64 candidates


def options_of(chance):
    """Return options at random, of every kind."""
    adaptive = [
        {"commit": "factor", "commit_factor": chance.choice([0.3, 1.0, 3.0])},
        {"commit": "entropy", "commit_entropy": chance.choice([0.1, 1.0])},
        {"remasking": "random"},
        {},
    ]
    return {
        "steps": chance.randint(1, 24),
        "max_new_tokens": chance.randint(1, 24),
        "block_length": chance.randint(1, 14),
        "temperature": chance.choice([0.0, 0.1, 1.0, 3.0]),
        "repetition_penalty": chance.choice([0.8, 1.0, 1.2]),
        "stochastic_transfer": chance.random() < 0.3,
        "cfg_scale": chance.choice([0.0, 0.0, 0.7]),
        "schedule": chance.choice(["linear", "cosine"]),
        "suppress_tokens": chance.choice([(), (), (5, 9, 20)]),
        "penalty_exempt": chance.choice([(), (7,)]),
        "cache": chance.choice(["none", "block", "block"]),
        "refresh_steps": chance.choice([0, 0, 2, 3]),
        "refresh_entropy": chance.choice([0.0, 0.0, 1.0]),
        "seed": chance.randrange(2**64),
        **chance.choice(adaptive),
    }


def sequence_of(chance):
    """Return a function that begins a sequence with options and tokens of its own."""
    config = GenerationConfig(**options_of(chance))
    tokens = [chance.choice([MASK, *range(5, VOCAB)]) for _ in range(chance.randint(1, 20))]
    if chance.random() < 0.2:
        canvas = for_infilling([*tokens, MASK], config.seed)
    else:
        canvas = for_generation(tokens, config.max_new_tokens, MASK, config.seed)
    return lambda: Sequence(canvas, config, SPECIAL)


def alone(forward, sequence):
    return [step for _, step in run(Engine(forward), [sequence], 1)]


def in_company(forward, begin, chance, most):
    """Take sequences through an engine, of which random ones join, rest and go on; return the steps of each."""
    engine, waiting, running = Engine(forward), list(range(len(begin))), {}
    steps = [[] for _ in begin]
    while waiting or running:
        while waiting and len(running) < most and chance.random() < 0.7:
            number = waiting.pop(chance.randrange(len(waiting)))
            running[number] = begin[number]()
        some = [number for number in running if chance.random() < 0.8]
        chance.shuffle(some)
        if some:
            for number, step in zip(some, engine.step([running[n] for n in some]), strict=True):
                steps[number].append(step)
        running = {number: sequence for number, sequence in running.items() if not sequence.finished}
    return steps


def assert_same(found, expected, tolerance=0.0):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_allclose(a.confidence, b.confidence, atol=tolerance)
        assert (a.index, a.block, a.is_last) == (b.index, b.block, b.is_last)
        assert (a.num_computed, a.num_predicted) == (b.num_computed, b.num_predicted)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 16, 64]))
def test_64_sequences_that_come_and_go_equal_themselves_alone(seed, most):
    chance = random.Random(seed)
    begin = [sequence_of(chance) for _ in range(64)]
    together = in_company(Caching(HashModel(VOCAB, 3)), begin, chance, most)
    for begun, steps in zip(begin, together, strict=True):
        assert_same(steps, alone(Caching(HashModel(VOCAB, 3)), begun()))


QUESTIONS = (
    "On iki artı beş kaç eder?",
    "Ters sırala: kitap, deniz, okul, elma",
    "kitap sözcüğünün çoğulu nedir?",
    "Bugün salı. Yarın hangi gün?",
)


def test_the_embedded_model_gives_in_company_what_it_gives_alone(model):
    chance = random.Random(11)
    kinds = [{}, {"cache": "block"}, {"cache": "block", "refresh_steps": 4}, {"preset": "fast"}, {"cfg_scale": 0.5}]
    begin = [
        {"max_new_tokens": chance.choice([8, 20, 33]), "block_length": chance.choice([5, 16]), "seed": number}
        | {"temperature": chance.choice([0.0, 0.5]), "early_end": chance.random() < 0.7}
        | chance.choice(kinds)
        for number in range(24)
    ]
    asked = [(QUESTIONS[number % len(QUESTIONS)], options) for number, options in enumerate(begin)]
    together = in_company(model.forward, [lambda q=q, o=o: model.sequence(q, **o) for q, o in asked], chance, most=8)
    for (question, options), steps in zip(asked, together, strict=True):
        assert_same(steps, list(model.stream(question, **options)), tolerance=1e-3)
        assert steps[-1].text == model.generate(question, **options)


def test_a_model_that_is_not_batch_invariant_runs_each_alone():
    model, shapes = HashModel(VOCAB, 3), []

    def forward(batch):
        shapes.append(batch.input_ids.shape)
        return model(batch)

    forward.batch_invariant = False
    config = GenerationConfig(max_new_tokens=4, steps=2)
    sequences = [Sequence(for_generation([7] * n, 4, MASK), config, SPECIAL) for n in (1, 5)]
    assert len(list(run(Engine(forward), sequences, 2))) == 4
    assert shapes == [(1, 5), (1, 9)] * 2  # in turns, unpadded


@pytest.fixture(scope="module")
def int8():
    """The embedded model in 8 bits."""
    return Diffutron.from_pretrained(variant="int8")


def test_16_sequences_of_int8_give_in_company_what_they_give_alone(int8):
    assert int8.forward.batch_invariant
    kinds = [{}, {"cache": "block"}, {"cache": "block", "refresh_steps": 3}, {"cfg_scale": 0.5}]
    asked = [
        (
            f"{QUESTIONS[n % 4]}{' x' * (n % 5)}",
            {"max_new_tokens": 12 + n, "block_length": 9, "seed": n} | kinds[n // 4],
        )
        for n in range(16)
    ]
    options = {"temperature": 0.5, "early_end": False}
    begin = [lambda q=q, o=o: int8.sequence(q, **options, **o) for q, o in asked]
    steps = in_company(int8.forward, begin, random.Random(1), most=16)
    for (question, more), found in zip(asked, steps, strict=True):
        assert_same(found, list(int8.stream(question, **options, **more)), tolerance=1e-4)


@pytest.mark.parametrize("predicted", [1, 7, 8])
def test_company_changes_no_bit_of_int8s_keys_and_values(int8, predicted):
    """The integer sums of a token are its own, so all that is left is the order in which float32 sums are rounded.

    It is the same in company, but for the last layer, whose rows are those of all sequences, and for padding.
    """
    ids = np.random.default_rng(0).integers(5, 2000, (16, 41))
    ids[:, -predicted:] = MASK
    places = np.arange(41)
    together = int8.forward(pass_input(ids, np.tile(places, (16, 1)), rows_of(16, 41, predicted), return_kv=True))
    for i, own in enumerate(ids):
        alone = int8.forward(pass_input(own[None], places[None], rows_of(1, 41, predicted), return_kv=True))
        for a, b in zip(values_of(alone, 0), values_of(together, i), strict=True):
            np.testing.assert_array_equal(a, b)
        here = slice(i * predicted, (i + 1) * predicted)
        np.testing.assert_array_equal(alone.top_ids, together.top_ids[here])
        np.testing.assert_allclose(alone.top_logits, together.top_logits[here], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(alone.rest, together.rest[here], rtol=1e-5)


def rows_of(size, length, count):
    """Return the indices of the last tokens of each sequence."""
    return (np.arange(size)[:, None] * length + np.arange(length - count, length)).ravel()


def values_of(predictions, row):
    """Return the keys and values [seq, hidden] of a sequence, of each layer in turn."""
    return [value.numpy()[row] for layer in predictions.kv_caches[0].store.layers for value in layer]


# Passes


def test_full_passes_share_one_and_cached_passes_another():
    model = Caching(HashModel(VOCAB, 3))
    cached = GenerationConfig(max_new_tokens=8, steps=8, block_length=4, cache="block")
    sequences = [Sequence(for_generation([7] * n, 8, MASK), cached, SPECIAL) for n in (1, 2, 3)]
    engine = Engine(model)
    for _ in range(2):
        engine.step(sequences)
    sequences.append(Sequence(for_generation([9], 8, MASK), cached.replace(cache="none"), SPECIAL))
    engine.step(sequences)
    assert [batch.input_ids.shape for batch in model.batches] == [(3, 11), (3, 4), (1, 9), (3, 4)]


def test_those_that_suppress_ids_share_a_pass_of_their_own():
    model = Caching(HashModel(VOCAB, 3))
    config = GenerationConfig(max_new_tokens=4, steps=4)
    suppressed = [(), (5, 6), (), (9,), (5,)]
    sequences = [
        Sequence(for_generation([7] * 3, 4, MASK), config.replace(suppress_tokens=ids, cfg_scale=scale), SPECIAL)
        for ids, scale in zip(suppressed, (0, 0, 0, 0, 0.5), strict=True)
    ]
    Engine(model).step(sequences)
    conditional, blind, suppressing = (batch.suppress_ids.tolist() for batch in model.batches)
    assert (conditional, blind) == ([[], [], []], [[]])  # under guidance, ids are suppressed after it
    assert suppressing == [[5, 6], [9, 9]]


def test_an_error_leaves_every_sequence_as_it_was():
    model, fails = Caching(HashModel(VOCAB, 3)), []

    @invariant
    def forward(batch):
        if fails and batch.past is not None:
            raise fails.pop()
        return model(batch)

    def sequences():
        config = GenerationConfig(max_new_tokens=12, steps=12, block_length=6, cache="block", temperature=1.0)
        exact = config.replace(cache="none", seed=4)
        return [Sequence(for_generation([7, 8], 12, MASK), c, SPECIAL) for c in (config, exact)]

    expected = list(run(Engine(model), sequences(), 2))
    engine, interrupted, found = Engine(forward), sequences(), []
    for number in range(12):
        if number % 3 == 2:
            fails.append(KeyboardInterrupt() if number % 2 else MemoryError())
            with pytest.raises((KeyboardInterrupt, ProviderError)):
                engine.step(interrupted)
            fails.clear()
        found += enumerate(engine.step(interrupted))
    assert [row for row, _ in found] == [row for row, _ in expected]
    for (_, a), (_, b) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)


class Broken:
    """A model that returns NaN for each sequence that begins with one token, and for all in its company if it leaks."""

    batch_invariant = True

    def __init__(self, token, leaks):
        self.model, self.token, self.leaks = Caching(HashModel(VOCAB, 3)), token, leaks

    def __call__(self, batch):
        said = self.model(batch)
        bad = (batch.input_ids[:, 0] == self.token)[batch.rows // batch.input_ids.shape[1]]
        return replace(said, rest=np.where(bad | (self.leaks & bad.any()), np.nan, said.rest))


@pytest.mark.parametrize("leaks", [False, True])
@pytest.mark.parametrize("cache", ["none", "block"])
def test_of_a_value_that_is_not_finite_it_is_told_whose_it_is_and_the_others_go_on(leaks, cache):
    config = GenerationConfig(max_new_tokens=6, steps=6, block_length=3, cache=cache, temperature=0.5)
    begin = [lambda n=n: Sequence(for_generation([n, 7, 8], 6, MASK, n), config, SPECIAL) for n in (5, 6, 9)]
    sequences, engine, found = [begun() for begun in begin], Engine(Broken(6, leaks)), []
    with pytest.raises(NumericsError, match="not finite") as caught:
        engine.step(sequences)
    assert caught.value.sequence == 1
    del sequences[caught.value.sequence]
    while not sequences[0].finished:
        found.append(engine.step(sequences))
    for begun, steps in zip((begin[0], begin[2]), zip(*found, strict=True), strict=True):
        assert_same(list(steps), alone(Caching(HashModel(VOCAB, 3)), begun()))


class Interrupted:
    """A reader that is interrupted while it looks at a canvas that was just committed to."""

    def __init__(self):
        self.interrupts = False

    def is_settled(self, ids, start):
        if self.interrupts:
            raise KeyboardInterrupt
        return False


def test_an_interrupt_while_steps_are_committed_changes_no_sequence():
    reader = Interrupted()
    config = GenerationConfig(max_new_tokens=6, steps=6, block_length=6, cache="block", temperature=1.0)
    readers = (None, reader)
    sequences = [Sequence(for_generation([7], 6, MASK, 3), config, SPECIAL, r) for r in readers]
    expected = alone(Caching(HashModel(VOCAB, 3)), Sequence(for_generation([7], 6, MASK, 3), config, SPECIAL))
    engine, found = Engine(Caching(HashModel(VOCAB, 3))), []
    for number in range(6):
        if number in (0, 3, 5):
            reader.interrupts = True
            with pytest.raises(KeyboardInterrupt):
                engine.step(sequences)
            reader.interrupts = False
            assert [sequence.steps for sequence in sequences] == [number, number]
        found.append(engine.step(sequences))
    for steps in zip(*found, strict=True):
        assert_same(list(steps), expected)
    assert all(sequence.finished for sequence in sequences)


def test_the_same_sequence_twice_is_a_mistake():
    sequence = Sequence(for_generation([7], 4, MASK), GenerationConfig(), SPECIAL)
    with pytest.raises(AssertionError, match="one step at a time"):
        Engine(HashModel(VOCAB, 3)).step([sequence, sequence])


def test_a_stream_that_is_closed_leaves_the_model_as_it_was(model):
    expected = model.generate(QUESTIONS[0], cache="block")
    for steps in (1, 2, 5):
        stream = model.stream(QUESTIONS[1], cache="block", block_length=8)
        for _ in range(steps):
            next(stream)
        stream.close()
    assert model.generate(QUESTIONS[0], cache="block") == expected


def test_a_sequence_that_came_to_its_end_is_asked_for_nothing_more():
    sequence = Sequence(for_generation([7], 1, MASK), GenerationConfig(steps=1), SPECIAL)
    [step] = alone(HashModel(VOCAB, 3), sequence)
    assert step.is_last
    assert sequence.finished
    with pytest.raises(AssertionError, match="already finished"):
        Engine(HashModel(VOCAB, 3)).step([sequence])


def test_a_text_without_masks_takes_no_step():
    sequences = [Sequence(for_infilling(ids), GenerationConfig(), SPECIAL) for ids in ([7, 8], [7, MASK], [])]
    assert [row for row, _ in run(Engine(HashModel(VOCAB, 3)), sequences, 2)] == [1]


# Memory


def test_sequences_begin_when_there_is_room_and_leave_when_they_end():
    begun, model = [], Caching(HashModel(VOCAB, 3))

    def sequences():
        for number in range(40):
            begun.append(number)
            config = GenerationConfig(max_new_tokens=6, steps=6, block_length=3, cache="block", seed=number)
            yield Sequence(for_generation([7] * (1 + number % 5), 6, MASK), config, SPECIAL)

    ended, kept = 0, list(sequences())
    begun.clear()
    assert len(list(run(Engine(model), kept, 4))) == 240
    model.batches.clear()
    assert not model.alive  # though the sequences that came to their ends are there
    for _, step in run(Engine(model), sequences(), 4):
        model.batches.clear()
        ended += step.is_last
        assert len(begun) - ended <= 5
        assert len(model.alive) <= 4
    assert ended == len(begun) == 40
    assert not model.alive


def stores(sequences):
    """Return the stores of keys and values that these sequences hold."""
    plans = [sequence.plan() for sequence in sequences if not sequence.finished]
    caches = [plan.kv.conditional for plan in plans if plan.kv is not None]
    assert all(isinstance(cache, SequenceCache) for cache in caches)
    return {id(cache.store): cache.store for cache in caches}


def test_sequences_that_share_cached_passes_hold_one_store_of_their_own_size(model):
    options = {"cache": "block", "early_end": False, "max_new_tokens": 16, "block_length": 8}
    questions = [f"{QUESTIONS[0]} " * 6, *QUESTIONS[1:]]  # the first, which is the longest, will leave
    sequences = [model.sequence(question, **options) for question in questions]
    engine = Engine(model.forward)
    engine.step(sequences[:2])
    engine.step(sequences[2:])
    assert len(stores(sequences)) == 2
    engine.step(sequences)
    [store] = stores(sequences).values()
    assert store.batch == 4
    engine.step(sequences[1:])  # one leaves: the others take their keys and values along
    [kept] = stores(sequences[1:]).values()
    longest = max(sequence.canvas.length for sequence in sequences[1:])
    assert (kept.batch, kept.seq) == (3, longest)
    before = kept
    engine.step(sequences[1:])
    [kept] = stores(sequences[1:]).values()
    assert kept is before  # nothing is copied while they stay together


def test_a_draw_beyond_the_candidates_in_company_is_the_one_alone():
    class Flat:
        batch_invariant = True

        def __call__(self, batch):
            return HashModel(400, 5)(batch)

    config = GenerationConfig(temperature=3.0, max_new_tokens=20, steps=20, block_length=10, repetition_penalty=1.5)
    begin = [
        lambda n=n: Sequence(for_generation([7] * n, 20, MASK, n), config.replace(seed=n), SPECIAL) for n in range(1, 6)
    ]
    together = in_company(Flat(), begin, random.Random(2), most=5)
    drawn = [steps[-1].ids[steps[-1].start :].max() for steps in together]
    assert max(drawn) > 64
    for begun, steps in zip(begin, together, strict=True):
        assert_same(steps, alone(Flat(), begun()))
