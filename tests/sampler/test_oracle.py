"""The loop against the oracle, canvas by canvas: how uniforms, odds, counts and logits are wired together.

What the hash model says of a token depends on tokens alone, so that a cache which recomputes all that can have changed
is exact with it.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from diffutron_ort.config import GenerationConfig
from diffutron_ort.sampler.canvas import for_generation, for_infilling
from diffutron_ort.sampler.engine import denoise
from diffutron_ort.types import SpecialIds
from tests.fakes import Caching
from tests.golden.hash_model import HashModel
from tests.sampler.oracle import trajectory

SPECIAL = SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=4)

seeds = st.sampled_from([0, 5, 2**33 + 7, 2**64 - 3])
ids = st.lists(st.integers(0, 6), max_size=3).map(tuple)
rules = st.one_of(
    st.builds(dict, remasking=st.sampled_from(["low_confidence", "random"])),
    st.builds(dict, commit=st.just("factor"), commit_factor=st.sampled_from([0.3, 1.0, 3.0])),
    st.builds(dict, commit=st.just("entropy"), commit_entropy=st.sampled_from([0.1, 0.7, 3.0])),
)
configs = st.builds(
    lambda rule, **options: GenerationConfig(**rule, **options),
    rule=rules,
    cache=st.sampled_from(["none", "block"]),
    refresh_steps=st.integers(0, 3),
    refresh_entropy=st.sampled_from([0.0, 0.5]),
    steps=st.integers(1, 20),
    max_new_tokens=st.integers(1, 12),
    block_length=st.integers(1, 16),
    temperature=st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    repetition_penalty=st.sampled_from([1.0, 1.2, 0.8, 2.0]),
    stochastic_transfer=st.booleans(),
    cfg_scale=st.sampled_from([0.0, 0.7]),
    cfg_keep_tokens=ids,
    schedule=st.sampled_from(["linear", "cosine"]),
    suppress_tokens=ids,
    penalty_exempt=ids,
    seed=seeds,
)


@settings(max_examples=120)
@given(
    prompts=st.lists(st.lists(st.integers(0, 6), max_size=8), min_size=1, max_size=3),
    config=configs,
    vocab=st.sampled_from([7, 20, 64, 65, 150]),
    salt=st.integers(0, 2**32 - 1),
)
def test_generation_takes_the_oracles_steps(prompts, config, vocab, salt):
    row_seeds = [(config.seed + i) % 2**64 for i in range(len(prompts))]
    canvases = [for_generation(p, config.max_new_tokens, 4, s) for p, s in zip(prompts, row_seeds, strict=True)]
    steps = list(denoise(Caching(HashModel(vocab, salt)), canvases, config, SPECIAL))
    for i, (prompt, seed) in enumerate(zip(prompts, row_seeds, strict=True)):
        expected = list(trajectory(prompt, config, vocab, salt, seed, infill=False))
        assert [step.ids.tolist() for row, step in steps if row == i] == expected


@settings(max_examples=40)
@given(
    text=st.lists(st.sampled_from([4, 4, 5, 6]), min_size=1, max_size=14),
    config=configs,
    salt=st.integers(0, 2**32 - 1),
)
def test_infilling_takes_the_oracles_steps(text, config, salt):
    steps = denoise(Caching(HashModel(70, salt)), [for_infilling(text, config.seed)], config, SPECIAL)
    expected = list(trajectory(text, config, 70, salt, config.seed, infill=True))
    assert [step.ids.tolist() for _, step in steps] == expected
