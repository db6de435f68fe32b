import numpy as np
import pytest

from diffutron_ort.sampler.canvas import Span, for_generation, for_infilling


def test_a_prompt_is_followed_by_masks():
    canvas = for_generation([7, 8], 3, mask=4)
    np.testing.assert_array_equal(canvas.ids, [7, 8, 4, 4, 4])
    np.testing.assert_array_equal(canvas.generated, [4, 4, 4])


def test_blocks_cover_the_generated_span_and_the_last_may_be_short():
    canvas = for_generation([7, 8], 5, mask=4)
    assert canvas.block_count(2) == 3
    assert [canvas.block(i, 2) for i in range(4)] == [Span(2, 4), Span(4, 6), Span(6, 7), Span(7, 7)]


def test_candidates_are_all_masks_before_the_end_of_the_block():
    canvas = for_generation([7, 4], 4, mask=4)  # the prompt has a mask of its own
    np.testing.assert_array_equal(canvas.candidates(Span(2, 4), 4), [1, 2, 3])


def test_candidates_of_infilling_are_those_inside_the_block():
    canvas = for_infilling([4, 9, 4, 4])
    np.testing.assert_array_equal(canvas.candidates(Span(2, 4), 4), [2, 3])


def test_commit_returns_a_new_canvas():
    canvas = for_generation([7], 2, mask=4)
    committed = canvas.commit(np.array([2]), np.array([9]))
    np.testing.assert_array_equal(canvas.ids, [7, 4, 4])
    np.testing.assert_array_equal(committed.ids, [7, 4, 9])
    with pytest.raises(ValueError, match="read-only"):
        committed.ids[0] = 1


def test_unconditional_masks_what_was_given_and_not_kept():
    first = for_generation([7, 8, 9], 2, mask=4)
    later = first.commit(np.array([3]), np.array([6]))
    np.testing.assert_array_equal(later.unconditional(first, 4, keep=(8,)).ids, [4, 8, 4, 6, 4])
