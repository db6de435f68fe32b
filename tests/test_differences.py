"""Where this package departs from the reference on purpose, each slip of the reference by name.

The numbers are those of the study of the reference: dllm's fork at e7c9501, which made the model's published results.
"""

import numpy as np
import pytest

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import ContextError, InputError, NumericsError, OptionError
from diffutron_ort.sampler import random
from diffutron_ort.sampler.canvas import for_generation
from diffutron_ort.sampler.engine import denoise
from diffutron_ort.sampler.sampling import reduce_logits
from diffutron_ort.sampler.schedule import commit_counts
from diffutron_ort.types import SpecialIds
from tests.fakes import Says, invariant, scripted
from tests.passes import predicted

SPECIAL = SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=4)


# 1.9: what the model was taught to fill up with


def test_1_9_pad_and_eos_both_end_the_answer(model):
    """The reference cuts at `<eos>` alone, which the model was not taught to emit."""
    for end in (0, 1):
        says = Says(*[9] * 64, vocab=model.bundle.vocab_size)
        copy = type(model)(model.bundle, model.tokenizer, says)
        canvas = model._prompts.canvas("x", True, model.config())
        [word], [other] = model.tokenizer.encode("kitap"), model.tokenizer.encode("ev")
        says.tokens = [9] * canvas.start + [word, end, other] + [9] * 64
        assert copy.generate("x") == "kitap"


# 2.1: stop strings


def test_2_1_a_stop_string_in_the_prompt_does_not_destroy_it(model):
    """The reference looks for stop strings in the whole canvas, so that `<s>` in a prompt leaves no answer."""
    copy, _ = scripted(model, "kitap\n[/Answer]\n\n")
    assert copy.generate("x", stop=("[Question]", "x")) == "kitap"


def test_2_1_an_answer_ends_at_its_closing_tag_and_so_does_generation(model):
    """The reference generates on after `[/Answer]` until the blocks end."""
    copy, says = scripted(model, "kitap ev\n[/Answer]\n\nmasa")
    assert copy.generate("x") == "kitap ev"
    assert says.passes < 64


def test_2_1_the_text_is_cut_on_the_string_and_not_on_a_count_of_re_encoded_tokens(model):
    """Decoding is not the inverse of encoding: the reference's index drifts."""
    copy, _ = scripted(model, "kitap ev masa\n[/Answer]")
    assert copy.generate("x", stop=("v m",)) == "kitap e"


def test_2_1_infilling_looks_for_no_end(model):
    """The reference applies its stop strings while infilling, too: what follows would stay masked."""
    ids, _ = model.tokenizer.encode_masked("bir <mask> iki <mask>")
    [word], [end] = model.tokenizer.encode("kitap"), model.tokenizer.encode("\n[/Answer]")[1:]
    for first in (end, 0, 1):
        says = Says(*[first if i == ids.index(4) else word for i in range(len(ids))], vocab=model.bundle.vocab_size)
        filled = type(model)(model.bundle, model.tokenizer, says).fill("bir <mask> iki <mask>")
        assert filled.endswith(" iki kitap")
        assert says.passes == 2


@pytest.mark.parametrize("token", ["<mask>", "<eos>", "<pad>", "<bos>", "<start_of_turn>"])
def test_control_tokens_in_user_text_are_neutralised(model, token):
    """In the reference `<mask>` in a question eats the budget, and `<eos>` is masked out of attention in a batch."""
    canvas = model._prompts.canvas(f"bir {token} iki", True, model.config())
    given = canvas.ids[: canvas.start]
    assert not {0, 1, 2, 4} & set(given.tolist())
    assert "bir " + token + " iki" in model.tokenizer.decode(given.tolist())


def test_fill_wants_masks_and_takes_them(model):
    assert "<mask>" not in model.fill("bir <mask> iki")


def test_2_1_a_mask_that_is_predicted_stays_a_mask_and_is_left_out_of_the_text(model):
    """Nothing in the reference prevents it, or says so; here the last step tells."""
    canvas = model._prompts.canvas("x", True, model.config())
    [word] = model.tokenizer.encode("kitap")
    says = Says(*[9] * canvas.start, word, 4, word, *[0] * 61, vocab=model.bundle.vocab_size)
    steps = list(type(model)(model.bundle, model.tokenizer, says).stream("x", early_end=False))
    assert steps[-1].masks_left == 1
    assert steps[-1].text == "kitap kitap"


def test_2_1_masks_of_a_prompt_take_part_in_the_budget():
    """Kept from the reference: `<mask>` ids of a raw prompt are candidates, and left-over masks can end the canvas."""
    canvas = for_generation([4, 9], 2, mask=4)
    config = GenerationConfig(steps=2, max_new_tokens=2, block_length=2, temperature=0.0, repetition_penalty=1.0)
    *_, (_, last) = denoise(Says(5, 5, 6, 7), [canvas], config, SPECIAL)
    np.testing.assert_array_equal(last.ids, [5, 9, 6, 4])
    assert last.masks_left == 1


def test_2_1_guidance_works_in_a_batch():
    """The reference does not repeat its attention mask for the unconditional half, and fails on its shape."""
    canvases = [for_generation(prompt, 3, mask=4) for prompt in ([7], [8, 9, 10])]
    config = GenerationConfig(steps=3, max_new_tokens=3, block_length=3, temperature=0.0, cfg_scale=1.5)
    last = dict(denoise(Says(*range(5, 20)), canvases, config, SPECIAL))
    np.testing.assert_array_equal(last[0].ids, [7, 6, 7, 8])
    np.testing.assert_array_equal(last[1].ids, [8, 9, 10, 8, 9, 10])


def test_2_1_eos_in_a_prompt_is_seen_in_a_batch():
    """The reference's attention mask is (canvas != eos), but for batches alone; ours follows lengths."""
    seen = []

    @invariant
    def spy(batch):
        seen.append(batch.position_ids.copy())
        return Says(*[5] * 20)(batch)

    canvases = [for_generation(prompt, 1, mask=4) for prompt in ([7, 1, 8], [7, 8, 9, 10])]
    config = GenerationConfig(steps=1, max_new_tokens=1, temperature=0.0)
    list(denoise(spy, canvases, config, SPECIAL))
    np.testing.assert_array_equal(seen[0], [[0, 1, 2, 3, -1], [0, 1, 2, 3, 4]])


def test_unknown_options_are_refused(model):
    """The reference ignores keyword arguments that it does not know."""
    with pytest.raises(OptionError, match="unknown option 'max_lenght'"):
        model.generate("x", max_lenght=3)


def test_more_than_the_context_is_refused(model):
    """The reference runs silently beyond the length of the training."""
    with pytest.raises(ContextError):
        model.generate("kitap " * 250)


def test_no_prompts_are_refused(model):
    """The reference raises an IndexError."""
    with pytest.raises(InputError):
        model.generate([])


def test_a_message_of_an_unknown_role_is_refused(model):
    """The reference's template drops it silently."""
    with pytest.raises(InputError, match="role 'tool'"):
        model.chat([{"role": "tool", "content": "x"}])


# 2.5: numerics


def test_2_5_counts_are_the_float32_ones():
    """Computed in float64 the schedule differs for a third of all pairs; here is one."""
    assert commit_counts(4, 3) == [1, 1, 2]


def test_2_5_ties_are_broken_by_position_and_not_by_topk():
    """torch.topk's order among equals is undefined: of 64 equal values it picks 42, 43 and 44."""
    canvas = for_generation([9], 64, mask=4)
    config = GenerationConfig(steps=32, max_new_tokens=64, block_length=64, temperature=0.0, repetition_penalty=1.0)
    (_, first), *_ = denoise(Says(*[5] * 65), [canvas], config, SPECIAL)
    np.testing.assert_array_equal(first.positions, [1, 2])


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf"), 1e-4])
def test_2_5_a_temperature_without_a_meaning_is_refused(model, temperature):
    """The reference accepts them and writes `<pad>` or garbage."""
    with pytest.raises(OptionError, match="temperature="):
        model.generate("x", temperature=temperature)


def test_2_5_large_logits_do_not_overflow():
    """exp(logit) in float64 is infinite beyond 709; differences from the best are not."""
    reduced = reduce_logits(np.array([[5000.0, 4990.0, 0.0]], np.float32), 0.1)
    np.testing.assert_allclose(reduced.rest, np.exp(-10.0))


def test_2_5_nan_is_an_error_and_no_text():
    """In the reference argmax returns the NaN's index and topk prefers it."""

    @invariant
    def broken(batch):
        return predicted(np.full((len(batch.rows), 16), np.nan, np.float32), batch)

    config = GenerationConfig(steps=1, max_new_tokens=1)
    with pytest.raises(NumericsError):
        list(denoise(broken, [for_generation([7], 1, mask=4)], config, SPECIAL))


def test_1_9_pad_is_penalised_once_seen_and_can_be_exempted():
    """Kept from the reference, where it pushes text after the answer's end; `penalty_exempt` spares it."""

    @invariant
    def says(batch):
        return predicted(np.tile(np.float32([2.0, 0, 0, 0, 0, 1.5]), (len(batch.rows), 1)), batch)

    options = {"steps": 1, "max_new_tokens": 1, "temperature": 0.0, "repetition_penalty": 2.0}
    for exempt, token in [((), 5), ((0,), 0)]:
        config = GenerationConfig(**options, penalty_exempt=exempt)
        [(_, step)] = denoise(says, [for_generation([0], 1, mask=4)], config, SPECIAL)
        assert step.ids[-1] == token


def test_one_uniform_a_row_is_drawn(monkeypatch):
    """The reference draws one for every position and piece: 65 million doubles a step at full size."""
    drawn = []
    uniform = random.uniform
    monkeypatch.setattr(random, "uniform", lambda *where: drawn.append(len(where[-1])) or uniform(*where))
    config = GenerationConfig(steps=2, max_new_tokens=4, block_length=4, temperature=1.0)
    list(denoise(Says(*range(5, 20)), [for_generation([7], 4, mask=4)], config, SPECIAL))
    assert drawn == [4, 2]


def test_fill_splices_into_the_text_it_was_given(model):
    """The reference decodes the whole canvas, with its spaces after newlines and without its double ones."""
    assert model.fill("bir\n  iki\t<mask>").startswith("bir\n  iki\t")


def test_the_space_after_a_newline_is_dropped(model):
    """The pre-tokenizer puts one before every stretch of text, and the reference shows it."""
    copy, _ = scripted(model, "kitap\nev\n[/Answer]")
    assert copy.generate("x") == "kitap\nev"
