"""The stop rule, against one that reads letter by letter, and against everything that the masks could become."""

import time
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffutron_ort import Diffutron
from diffutron_ort.text.stopping import Ends, StopRule
from tests.fakes import Says
from tests.text import stop_vectors
from tests.text.stop_vectors import (
    BUNDLE,
    CONTINUATIONS,
    ID,
    IN_BYTES,
    LEADS,
    LETTERS,
    OWN,
    SPECIAL,
    SPELLED,
    STRINGS,
    TOKENIZER,
    TOKENS,
)

PAD, EOS, MASK = SPECIAL.pad, SPECIAL.eos, SPECIAL.mask


@cache
def decoded(ids, previous):
    return TOKENIZER.decode(ids, previous)


def shown(ids, start, own, strings):
    """The answer's text by its definition: take one more id, and then one more letter, until a stop is complete."""
    previous, ids = ids[start - 1] if start else None, tuple(ids[start:])
    sequences = [(PAD,), (EOS,), *(sequence for _, sequence in own)]
    begin = complete = len(ids)
    for end in range(1, len(ids) + 1):
        if lengths := [len(s) for s in sequences if len(s) <= end and ids[end - len(s) : end] == tuple(s)]:
            begin, complete = end - max(lengths), end
            break
    answer, whole = decoded(ids[:begin], previous), decoded(ids[:complete], previous)
    owns = [text for text, _ in own]
    for end in range(1, len(whole) + 1):
        if found := [s for s in (*owns, *strings) if whole[:end].endswith(s)]:
            longest = max(found, key=len)
            if longest not in owns:
                return whole[: end - len(longest)]
            return answer if end > len(answer) else whole[: end - len(longest)].removesuffix(" ")
    return answer


def outcomes(ids, start, own, strings, tokens, most=3):
    """The texts that a canvas can end with, if its first masks become any of `tokens`, or stay."""
    masks = [place for place, token in enumerate(ids) if token == MASK and place >= start][:most]
    texts = set()
    for fill in product([*tokens, MASK], repeat=len(masks)):
        filled = list(ids)
        for place, token in zip(masks, fill, strict=True):
            filled[place] = token
        texts.add(shown(filled, start, own, strings))
        if len(texts) > 1:
            break
    return texts


def rule(own=OWN, strings=()):
    return StopRule(TOKENIZER, SPECIAL, own, strings)


def canvases(tail):
    """Canvases [length], of a token before the generated span, settled ones, a mask, and `tail` with one more or none.

    The settled ones end with bytes more often than not.
    """
    few = st.lists(st.sampled_from([*tail, MASK]), max_size=3).filter(lambda ids: ids.count(MASK) < 2)
    parts = (
        st.lists(st.sampled_from([9, ID["\n"]]), min_size=1, max_size=1),
        st.lists(st.sampled_from(TOKENS), max_size=3),
        st.lists(st.sampled_from([*LEADS, *CONTINUATIONS]), max_size=3),
        st.just([MASK]),
        few,
    )
    return st.tuples(*parts).map(lambda parts: [token for part in parts for token in part])


stop_strings = st.lists(st.sampled_from(STRINGS) | st.sampled_from(IN_BYTES), max_size=3).map(tuple)
own_sequences = st.sampled_from([OWN, SPELLED, [*OWN, *SPELLED]])


@settings(max_examples=400)
@given(st.lists(st.sampled_from([*TOKENS, MASK]), max_size=9), st.integers(0, 2), own_sequences, stop_strings)
def test_the_text_is_cut_where_a_stop_is_complete_first(ids, start, own, strings):
    ids = [9, ID["\n"], *ids]
    assert rule(own, strings).text(np.array(ids), start) == shown(ids, start, own, strings)


@settings(max_examples=300)
@given(canvases(TOKENS), own_sequences, stop_strings)
def test_what_is_settled_can_become_nothing_else(ids, own, strings):
    if rule(own, strings).is_settled(np.array(ids), 1):
        texts = outcomes(ids, 1, own, strings, TOKENS)
        assert texts == {rule(own, strings).text(np.array(ids), 1)}


@settings(max_examples=300)
@given(canvases([*LETTERS, *LEADS]), stop_strings.filter(len))
def test_what_can_become_nothing_else_is_settled(ids, strings):
    settled = len(outcomes(ids, 1, OWN, strings, TOKENS)) == 1
    assert rule(strings=strings).is_settled(np.array(ids), 1) is settled


A, C4, EF, BF, BD, F0, FF = (ID[f"<0x{byte}>"] for byte in ("41", "C4", "EF", "BF", "BD", "F0", "FF"))
E, NEWLINE, CLOSING = ID["e"], ID["\n"], ID["▁[/Answer]"]


def outcome_texts(ids, own, strings, tokens, strip):
    """Yield every text that a canvas can end with, if its first two masks become any of `tokens`, or stay."""
    masks = [place for place, token in enumerate(ids) if token == MASK][:2]
    for fill in product([*tokens, MASK], repeat=len(masks)):
        filled = list(ids)
        for place, token in zip(masks, fill, strict=True):
            filled[place] = token
        text = shown(filled, 1, own, strings)
        yield text.strip() if strip else text


@settings(max_examples=300)
@given(canvases(TOKENS), own_sequences, stop_strings, st.booleans())
def test_settled_text_is_the_beginning_of_whatever_the_answer_becomes(ids, own, strings, strip):
    settled = StopRule(TOKENIZER, SPECIAL, own, strings, strip=strip).settled(np.array(ids), 1)
    for text in outcome_texts(ids, own, strings, TOKENS, strip):
        assert text.startswith(settled)


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([*TOKENS, *(ids[0] for _, ids in SPELLED)]), min_size=1, max_size=9),
    own_sequences,
    stop_strings,
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_settled_text_only_ever_grows_into_the_answer(tokens, own, strings, strip, chance):
    stop = StopRule(TOKENIZER, SPECIAL, own, strings, strip=strip)
    canvas, order = np.full(1 + len(tokens), MASK), list(range(1, 1 + len(tokens)))
    canvas[0] = 9
    chance.shuffle(order)
    before = stop.settled(canvas, 1)
    for place in order:
        canvas[place] = tokens[place - 1]
        now = stop.settled(canvas, 1)
        assert now.startswith(before)
        before = now
    assert before == stop.text(canvas, 1)


def test_settled_text_by_hand():
    def stripping(own=OWN, strings=()):
        return StopRule(TOKENIZER, SPECIAL, own, strings, strip=True)

    word, space = TOKENIZER.encode("bir iki"), ID["▁"]
    stop = stripping(strings=("ki z",))
    begun = [9, *word]
    assert stop.settled(np.array([*begun, MASK]), 1) == "bir i"  # "ki" may become "ki z"
    assert stop.settled(np.array([*begun, ID["e"], MASK]), 1) == "bir ikie"
    assert stop.settled(np.array([*begun, ID["e"], space, MASK]), 1) == "bir ikie"  # white space may be stripped
    assert stop.settled(np.array([*begun, C4, MASK]), 1) == "bir i"  # half of a character
    assert stripping().settled(np.array([*begun, C4, ID["<0x9F>"], MASK]), 1) == "bir iki"  # the next byte may break it
    assert stripping().settled(np.array([*begun, C4, ID["<0x9F>"], ID["e"], MASK]), 1) == "bir ikiğe"
    assert stripping(SPELLED).settled(np.array([*begun, *SPELLED[0][1][:3], MASK]), 1) == "bir iki"
    assert stripping().settled(np.array([9, MASK, *word]), 1) == ""
    assert stripping().settled(np.array([*begun, PAD, MASK]), 1) == "bir iki"


@pytest.mark.parametrize("strip", [True, False])
def test_a_stop_sequence_that_spells_another_one_settles_nothing_before_it_is_whole(strip):
    closing = [ID[piece] for piece in ("▁", "[", "/", "e", "l", "]", "b")]
    own = [("[/el]", (ID["▁[/Answer]"],)), ("▁[/el]b".replace("▁", " "), tuple(closing))]
    stop = StopRule(TOKENIZER, SPECIAL, own, ("zzz",), strip=strip)
    tokens, shown = [9, ID["e"], *closing], ""
    canvas = np.full(len(tokens) + 1, MASK)
    for place, token in enumerate(tokens):
        canvas[place] = token
        settled = stop.settled(canvas, 1)
        assert settled.startswith(shown)
        shown = settled
        if stop.is_settled(canvas, 1):
            assert stop.text(canvas, 1) == stop.text(np.array([*tokens, PAD]), 1)
    assert stop.text(canvas, 1).startswith(shown)


def test_many_stop_strings_do_not_make_settled_text_slow():
    strings = tuple(f"{number}{'x' * 9000}" for number in range(1000))
    stop = rule(strings=strings)
    begun = time.process_time()
    stop.settled(np.array([9, *[ID["e"]] * 60, MASK]), 1)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("ids", "expected", "stopped"),
    [
        ([PAD], [], True),
        ([569, PAD, PAD], [1], True),
        ([569, 487, EOS, 569], [1, 2], True),
        ([569, 487], [1, 2], False),
        ([569, MASK, 487], [1, 3], False),
        ([569, MASK, 487, PAD], [1, 3], True),
        ([569, CLOSING, MASK], [1], True),
    ],
)
def test_an_ending_names_the_answers_tokens(ids, expected, stopped):
    assert ending([9, *ids]) == (expected, stopped)


def ending(ids, strings=()):
    positions, stopped = rule(strings=strings).ending(np.array(ids), 1)
    return positions.tolist(), stopped


def test_an_ending_by_text_counts_the_tokens_that_spell_what_is_shown():
    word = TOKENIZER.encode("bir iki bir")
    assert len(word) == 3
    assert ending([9, *word], (" iki",)) == ([1], True)
    assert ending([9, *word], ("ki",)) == ([1, 2], True)  # "i" takes a part of the token
    assert ending([9, *word], ("bir",))[1]
    assert ending([9, *word], ("zzz",)) == ([1, 2, 3], False)


@pytest.mark.parametrize(
    ("ids", "strings", "settled"),
    [
        ([E, MASK], ("e",), True),
        ([MASK, E], ("e",), False),
        ([ID["▁b"], MASK], (" b",), False),  # after a newline the space is none of the text's
        ([ID["▁b"], MASK], ("b",), True),
        ([A, MASK], ("A",), False),  # one more byte can make it U+FFFD
        ([A, ID["<unk>"], MASK], ("A",), False),  # which is no text, and parts no bytes
        ([A, E, MASK], ("A",), True),
        ([A, NEWLINE, MASK], ("A",), True),
        ([A, PAD, MASK], ("A",), True),
        ([A], ("A",), True),  # the canvas ends
        ([C4, MASK], ("\ufffd",), False),  # ğ, perhaps
        ([C4, MASK], ("\ufffd", "A"), False),
        ([C4, E, MASK], ("\ufffd",), True),
        ([FF, MASK], ("\ufffd",), True),  # never UTF-8
        ([C4, A, MASK], ("\ufffd",), True),
        ([A, MASK], ("\ufffd", "A"), True),  # cut there whatever comes
        ([A, MASK], ("\ufffd\ufffd", "A"), True),
        ([A, C4, MASK], ("\ufffd", "A"), True),
        ([E, A, MASK], ("eA", "\ufffd"), False),  # cut, but not at the same place
        ([EF, BF, BD, MASK], ("\ufffd",), True),  # U+FFFD itself, or three in place of bytes
        ([F0, MASK, MASK], ("\ufffd",), True),  # two bytes are too few for it
        ([F0, MASK, MASK, MASK], ("\ufffd",), False),
        ([F0, MASK, E, MASK, MASK], ("\ufffd",), True),
        ([F0, MASK, PAD, MASK, MASK], ("\ufffd",), True),
        ([F0, MASK, BF, BF, MASK], ("\ufffd",), False),
        ([F0, MASK, A, BF, MASK], ("\ufffd",), True),
        ([C4, MASK, C4, E, MASK], ("\ufffd",), True),
        ([CLOSING, MASK], (), True),
        ([MASK, CLOSING], (), False),
        ([*(ID[piece] for piece in ("[", "/", "Answer", "]")), MASK], (), False),  # as in the graph
        ([*(ID[piece] for piece in ("[", "/", "Answer", "]")), MASK], ("b",), True),
    ],
)
def test_when_a_text_is_settled(ids, strings, settled):
    assert rule(strings=strings).is_settled(np.array([NEWLINE, *ids]), 1) is settled


@pytest.mark.parametrize(
    ("ids", "strings", "text"),
    [
        ([ID["▁b"], E, CLOSING, E], (), "be"),
        ([ID["▁b"], E, CLOSING], (" b",), "be"),
        ([ID["▁b"], E, CLOSING], ("e",), "b"),
        ([ID["▁b"], E, CLOSING], ("e [",), "b"),
        ([ID["▁b"], E, CLOSING], (" ",), "be"),
        ([ID["▁b"], E, CLOSING], ("/",), "be ["),
        ([ID["▁b"], E, CLOSING], ("[/Answer]",), "be"),  # it is the bundle's, too
        ([ID["▁b"], E, CLOSING], ("e [/Answer]",), "b"),  # of equals the longest
        ([ID["▁b"], E, CLOSING, E], ("]e", "be z"), "be"),
        ([NEWLINE, ID["▁"], CLOSING], (), "\n"),  # the text of the tokens that the graph returns
        ([ID["▁b"], PAD, E], ("e",), "b"),
        ([ID["▁b"], EOS, CLOSING], ("[",), "b"),
        ([ID["▁b"], MASK, E], (), "be"),
    ],
)
def test_where_a_text_is_cut(ids, strings, text):
    assert rule(strings=strings).text(np.array([NEWLINE, *ids]), 1) == text


class ByteLevel:
    """A tokenizer of which every token from 5 on is a byte, and the text what is valid of them."""

    def decode(self, ids, previous=None):
        return bytes(token - 5 for token in ids if token >= 5).decode("utf-8", "replace")

    def piece(self, token):
        return chr(token)


@pytest.mark.parametrize(
    ("committed", "strings", "settled"),
    [
        (b"\xc4", ("\ufffd",), False),  # ğ, perhaps
        (b"a\xc4", ("a\ufffd",), False),
        (b"a\xc4", ("a",), True),
        (b"\xff\xc4", ("\ufffd",), True),
        (b"\xc4a", ("\ufffd",), True),
        ("ğ".encode(), ("ğ",), True),
    ],
)
def test_a_beginning_of_a_character_is_not_settled_at_the_level_of_bytes(committed, strings, settled):
    ids = np.array([*(byte + 5 for byte in committed), MASK])
    assert StopRule(ByteLevel(), SPECIAL, [], strings).is_settled(ids, 0) is settled


def test_a_stop_sequence_whose_ids_have_another_text_ends_an_answer_all_the_same():
    ids = np.array([NEWLINE, ID["▁b"], E, ID["l"], E])
    assert rule([("[/Answer]", (E, ID["l"]))]).text(ids, 1) == "b"


STOP = [(20, 21)]


@pytest.mark.parametrize(
    ("ids", "answer", "ended"),
    [
        ([9, 0, 9], [9], True),  # <pad>
        ([9, 1, 9], [9], True),  # <eos>
        ([9, 9, 20, 21, 9], [9, 9], True),  # a stop sequence
        ([9, 20, 22, 20, 21], [9, 20, 22], True),
        ([9, 20], [9, 20], False),  # half of one
        ([9, 4, 20, 21, 0], [9, 4], False),  # a mask stands before it
        ([9, 20, 4, 21, 0], [9, 20, 4, 21], False),  # and in it
        ([20, 21, 4], [], True),
        ([0, 4], [], True),
        ([4, 0], [4], False),
        ([9, 9], [9, 9], False),
        ([], [], False),
    ],
)
def test_the_answer_ends_by_its_ids(ids, answer, ended):
    ids = np.array(ids, np.int64)
    ends = Ends(SPECIAL, STOP)
    np.testing.assert_array_equal(ends.answer(ids), answer)
    assert ends.has_ended(ids) is ended


def test_of_stop_sequences_that_are_complete_at_once_the_longest_counts():
    ids = np.array([9, 20, 21, 22])
    assert Ends(SPECIAL, [(21,), (20, 21)]).answer(ids).tolist() == [9]
    assert Ends(SPECIAL, [(20, 21, 22), (21,)]).answer(ids).tolist() == [9, 20]


def test_what_is_committed_ends_at_the_first_mask():
    ends = Ends(SPECIAL, [])
    assert ends.committed(np.array([5, 6, 4, 7])).tolist() == [5, 6]
    assert ends.committed(np.array([5, 6])).tolist() == [5, 6]


def test_the_vectors_for_other_languages_are_what_the_rule_says():
    assert stop_vectors.FILE.read_text("utf-8") == stop_vectors.written(stop_vectors.vectors())


# The loop, with a model that says what a test wants, in any order.

FEW = [ID[piece] for piece in ("z", "e", "▁b", "<pad>")] + [C4, F0, FF, *CONTINUATIONS]


@settings(max_examples=100)
@given(
    answer=st.lists(st.sampled_from([*TOKENS, MASK]), min_size=1, max_size=6),
    strings=stop_strings.filter(len),
    order=st.sampled_from([{}, *({"remasking": "random", "seed": seed} for seed in range(4))]),
    block_length=st.integers(1, 6),
    steps=st.integers(1, 6),
    template=st.booleans(),
)
def test_an_early_end_shows_the_same_and_comes_at_the_first_step_that_it_can(
    answer, strings, order, block_length, steps, template
):
    options = {"max_new_tokens": len(answer), "block_length": block_length, "steps": steps, "stop": strings} | order
    model = Diffutron(BUNDLE, TOKENIZER, Says(vocab=BUNDLE.vocab_size))
    start = model._prompts.canvas("x", template, model.config(**options)).start
    model.forward.tokens = [9] * start + answer
    early, late = (list(model.stream("x", template=template, early_end=end, **options)) for end in (True, False))
    assert early[-1].text == late[-1].text == model.generate("x", template=template, **options)
    [text] = outcomes(late[-1].ids.tolist(), start, OWN, strings, [], most=0)
    assert late[-1].text == (text.strip() if template else text)
    could_end = [len(outcomes(step.ids.tolist(), start, OWN, strings, FEW)) == 1 for step in late]
    assert len(early) == (could_end.index(True) + 1 if any(could_end) else len(late))


def test_an_ending_counts_the_least_tokens_that_spell_the_text_though_bytes_break_it_meanwhile():
    g = [C4, ID["<0x9F>"]]
    assert ending([9, *g, *g, ID["z"]], ("ğz",)) == ([1, 2], True)
    assert ending([9, ID["e"], *g, *g, *g, ID["z"]], ("ğz",)) == ([1, 2, 3, 4, 5], True)


def test_an_ending_reaches_into_the_stop_sequence_that_a_stop_string_overlaps():
    closing = ID["▁[/Answer]"]
    positions, stopped = ending([9, ID["e"], closing, PAD], ("/",))
    assert (positions, stopped) == ([1, 2], True)
    assert rule(strings=("/",)).text(np.array([9, ID["e"], closing, PAD]), 1) == "e ["
