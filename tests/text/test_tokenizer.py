"""Encode and decode text; refuse files that do not match the model, and keep control tokens out of user text."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import BundleError, InputError
from diffutron_ort.text.tokenizer import Tokenizer
from diffutron_ort.types import SpecialIds
from tests.text.tokenizer_files import (
    DECODERS,
    EMBEDDED,
    METASPACE,
    REPLACE,
    SPECIAL,
    SPLIT,
    STRIP,
    TAGS,
    build,
    specification,
    tokenizer_of,
)

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]


@pytest.fixture(scope="module")
def path():
    return EMBEDDED


@pytest.fixture(scope="module")
def tokenizer(path):
    return load(path, load_bundle().vocab_size)


def load(path, vocab_size=10**6, special=SPECIAL):
    return Tokenizer(path.read_bytes(), str(path), vocab_size, special)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Merhaba dünya",
        "İstanbul'da ışık ılık, İĞNE iğne",
        "[Question]\nKaç?\n[/Question]\n\n[Answer]\n",
        "satır\n\n\nsatır\tsekme\t\tsekme",
        "😀 中文 \x00 \x1b[31m",
        *CONTROL,
        "a <mask> b<eos>",
    ],
)
def test_decoding_inverts_encoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)).removeprefix(" ") == text


def test_bos_and_eos_are_not_added(tokenizer):
    assert not {1, 2} & set(tokenizer.encode("Merhaba"))


@pytest.mark.parametrize("text", CONTROL)
def test_control_tokens_in_user_text_are_encoded_as_characters(tokenizer, text):
    ids = tokenizer.encode(f"bir {text} iki")
    assert min(ids) > 6
    assert len(ids) > 3


@pytest.mark.parametrize("text", ["bir\niki", "bir iki", "bir\n  iki", "bir\n\n\t   iki"])
def test_the_space_that_decoding_adds_after_a_newline_is_removed(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == f" {text}"


def test_the_previous_token_decides_whether_a_space_is_removed(tokenizer):
    [newline], word = tokenizer.encode("\n"), tokenizer.encode("bir")
    assert tokenizer.decode(word, previous=newline) == "bir"
    assert tokenizer.decode(word, previous=word[0]) == tokenizer.decode(word) == " bir"


def test_decoded_text_has_no_control_tokens(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("bir"), 4, 0, 1, 2]).strip() == "bir"


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("bir <mask> iki", ["bir ", " iki"]),
        ("<mask><mask>", ["", "", ""]),
        ("bir", ["bir"]),
        ("<eos> <mask>", ["<eos> ", ""]),
    ],
)
def test_only_mask_becomes_a_control_token(tokenizer, text, pieces):
    ids, found = tokenizer.encode_masked(text)
    assert found == pieces
    assert ids.count(4) == len(pieces) - 1
    assert not {0, 1, 2} & set(ids)


def test_a_mask_absorbs_the_space_before_it(tokenizer):
    [bir], [iki] = tokenizer.encode("bir"), tokenizer.encode("iki")
    assert tokenizer.encode_masked("bir <mask> iki")[0] == [bir, 4, iki]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\ud800", "half of a surrogate pair"),
        ("ab\udcff", "position 2"),
        (b"ab", "of type bytes"),
        (None, "of type NoneType"),
    ],
)
def test_input_that_is_not_valid_text_is_refused(tokenizer, text, found):
    for encode in (tokenizer.encode, tokenizer.encode_masked):
        with pytest.raises(InputError, match=found):
            encode(text)


def changed(path, tmp_path, change):
    """Write a changed copy of a tokenizer.json, and return its path."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    return tmp_path / "tokenizer.json"


def unmarked(specification):
    for token in specification["added_tokens"]:
        token["special"] = False


def test_control_tokens_are_neutralised_even_if_the_file_declares_them_ordinary(path, tmp_path):
    tokenizer = load(changed(path, tmp_path, unmarked))
    for text in CONTROL:
        assert min(tokenizer.encode(f"bir {text} iki")) > 6
    ids, _ = tokenizer.encode_masked("bir <mask> <eos> iki")
    assert ids.count(4) == 1
    assert 1 not in ids
    assert tokenizer.decode([*tokenizer.encode("bir"), 0, 4]) == " bir"


def test_other_ids_of_control_tokens_are_refused(path):
    with pytest.raises(BundleError, match=r"<mask> has id 4, the manifest says 5; export the model again"):
        load(path, 10**6, SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=5))


def test_truncation_and_padding_of_the_file_are_ignored(path, tmp_path):
    def limited(specification):
        specification["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
        specification["padding"] = {
            "strategy": {"Fixed": 50},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        }

    text = "bir iki bir iki bir iki"
    tokenizer = load(changed(path, tmp_path, limited))
    assert tokenizer.decode(tokenizer.encode(text)) == f" {text}"
    assert len(tokenizer.encode(text)) == 6


def bad_charsmap(specification):
    specification["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}


def no_model(specification):
    del specification["model"]


@pytest.mark.parametrize("change", [bad_charsmap, no_model])
def test_a_panic_while_loading_is_a_bundle_error(path, tmp_path, change):
    with pytest.raises(BundleError, match=r"tokenizer\.json .*export the model again"):
        load(changed(path, tmp_path, change))


def test_a_panic_while_encoding_is_a_bundle_error(tokenizer, monkeypatch):
    class PanicException(BaseException):
        pass

    class Panics:
        def encode(self, *_, **__):
            raise PanicException("index out of bounds")

    monkeypatch.setattr(tokenizer, "_tokenizer", Panics())
    with pytest.raises(BundleError, match="cannot encode: index out of bounds"):
        tokenizer.encode("bir")


def test_an_interrupt_is_not_turned_into_an_error(tokenizer, monkeypatch):
    class Interrupted:
        def encode(self, *_, **__):
            raise KeyboardInterrupt

    monkeypatch.setattr(tokenizer, "_tokenizer", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("bir")


def test_a_tokenizer_of_another_model_is_refused(path):
    with pytest.raises(BundleError, match="the model.s vocabulary has 100; export the model again"):
        load(path, 100)


def test_an_id_beyond_the_models_vocabulary_is_refused(path, tmp_path):
    def sparse(specification):
        specification["model"]["vocab"]["▁bir"] = 10**6

    tokenizer = load(changed(path, tmp_path, sparse))
    assert tokenizer.encode("iki")
    with pytest.raises(BundleError, match="id 1000000 is outside the model.s vocabulary of 1000000; export"):
        tokenizer.encode("bir")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"\xff": 1}'])
def test_a_malformed_file_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BundleError, match="cannot be loaded"):
        load(tmp_path / "tokenizer.json", 512)


KINDS = {
    "mmBERT's": {},
    "normalized tags": {"flags": {"normalized": True}},
    "words of their own": {"flags": {"single_word": True}},
    "Strip": {"decoder": {"type": "Sequence", "decoders": [*DECODERS, STRIP]}},
    "Metaspace": {"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, METASPACE]}},
    "Gemma 2's": {"pre_tokenizer": SPLIT},
    "no prefix": {"pre_tokenizer": METASPACE | {"prepend_scheme": "never"}},
    "Llama's": {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, REPLACE]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [*DECODERS, STRIP]},
    },
}
TAGGED = (
    *(
        "H<sub>2</sub>O",
        "<b>kalın</b>",
        "<b>kalın</b>, <i>eğik</i>.",
        "bir<br>iki",
        "bir <br>\niki",
        "\n<b>\niki\n</b>",
    ),
    *(
        "<b>  iki boşluk</b>",
        "<b></b>",
        "<i>😀</i>ı",
        "x<sub>n</sub><br><br>\n\n\ty",
        "<sub>12</sub>",
        "<b",
        "<B>b</B>",
    ),
)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_inverts_encoding_with_tags(kind):
    tokenizer = build(**KINDS[kind])
    assert tokenizer.encode("<sub>")[-1] == TAGS.index("<sub>") + 2023
    for text in (*TAGGED, "Merhaba dünya", "bir\niki", "İyi 😀\n\n\tışık"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids).removeprefix(" ") == text
        for i in range(1, len(ids)):  # decoding in two parts, cut between words, gives the same text
            head, tail = tokenizer.decode(ids[:i]), tokenizer.decode(ids[i:], ids[i - 1])
            if "\ufffd" not in head + tail and tokenizer.piece(ids[i - 1]) != "▁":
                assert head + tail == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", ["Gemma 2's", "no prefix"])
def test_a_space_after_a_newline_or_a_tag_is_kept_if_the_tokenizer_adds_none(kind):
    tokenizer = build(**KINDS[kind])
    for text in ("bir\n iki", "<b>bir</b> iki", "bir<br> iki"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text", ["<b><mask></b> iki", " <mask>", "bir\n <mask>\n<mask>", "a <mask> <mask><sub>2</sub>"]
)
def test_a_text_with_masks_has_the_librarys_ids(kind, text):
    tokenizer = build(**KINDS[kind])
    aware = tokenizers.Tokenizer.from_str(tokenizer._tokenizer.to_str())  # this one recognizes `<mask>`
    assert tokenizer.encode_masked(text)[0] == aware.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("flag", ["single_word", "rstrip"])
def test_a_mask_is_recognized_whatever_its_token_declares(path, flag, tmp_path):
    def flagged(specification):
        specification["added_tokens"][4][flag] = True

    tokenizer = load(changed(path, tmp_path, flagged))
    ids, pieces = tokenizer.encode_masked("kitap<mask>lar <mask> ev")
    assert ids.count(4) == 2
    assert pieces == ["kitap", "lar ", " ev"]


def test_the_file_is_read_only_once(path, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(path.read_bytes())
    tokenizer = load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").unlink()
    assert tokenizer.encode_masked("bir <mask>")[0][-1] == 4


SAVED = {
    "dropout": lambda s: s["model"].update(dropout=0.9),
    "another template": lambda s: s["post_processor"].update(single=[{"Sequence": {"id": "A", "type_id": 0}}] * 3),
    "no post-processor": lambda s: s.update(post_processor=None),
}


@pytest.mark.parametrize("state", SAVED)
def test_dropout_and_post_processing_of_the_file_are_ignored(path, tmp_path, tokenizer, state):
    other = load(changed(path, tmp_path, SAVED[state]))
    text = "Türkiye'nin başkenti neresidir, kitaplarımızdan hangisi? " * 3
    assert other.encode(text) == tokenizer.encode(text)
    assert other.encode_masked(f"{text}<mask>") == tokenizer.encode_masked(f"{text}<mask>")


def test_a_model_that_encodes_text_as_control_tokens_is_refused():
    content = specification() | {"pre_tokenizer": None, "normalizer": None}
    content["model"] = {"type": "WordLevel", "vocab": content["model"]["vocab"], "unk_token": "<unk>"}
    with pytest.raises(BundleError, match="encodes a typed <pad> as the control token"):
        tokenizer_of(content)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, REPLACE]}},
        {
            "normalizer": {
                "type": "Sequence",
                "normalizers": [REPLACE | {"pattern": {"String": "aaaa"}, "content": "b"}],
            }
        },
        {"flags": {"lstrip": True}},
    ],
)
@given(st.lists(st.sampled_from(["a", "aaaa", " ", "\n\n", "kitap", "e\u0301", "😀", "<b>", "ﷺ"]), max_size=60))
def test_least_tokens_is_a_lower_bound(parts, texts):
    tokenizer = build(**parts)
    text = "".join(texts) * 20
    assert tokenizer.least_tokens(len(text)) <= len(tokenizer.encode(text))


def test_least_tokens_counts_the_longest_pieces(tokenizer):
    pieces = tokenizer._tokenizer.get_vocab()
    longest = max(map(len, pieces))
    assert tokenizer.least_tokens(0) == 0
    assert tokenizer.least_tokens(longest) == 1
    assert tokenizer.least_tokens(longest + 1) == 2
