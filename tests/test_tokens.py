import json

import pytest

from diffutron_ort.bundle import load_bundle
from diffutron_ort.canvas import SpecialIds
from diffutron_ort.errors import BundleError, InputError
from diffutron_ort.tokens import Tokenizer

SPECIAL = SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=4)
CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]


@pytest.fixture(scope="module")
def path():
    return load_bundle().folder / "tokenizer.json"


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
def test_text_survives_the_way_to_ids_and_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)).removeprefix(" ") == text


def test_no_bos_and_no_eos_as_in_training(tokenizer):
    assert not {1, 2} & set(tokenizer.encode("Merhaba"))


@pytest.mark.parametrize("text", CONTROL)
def test_control_tokens_in_a_users_text_are_letters(tokenizer, text):
    ids = tokenizer.encode(f"bir {text} iki")
    assert min(ids) > 6
    assert len(ids) > 3


@pytest.mark.parametrize("text", ["bir\niki", "bir iki", "bir\n  iki", "bir\n\n\t   iki"])
def test_the_space_after_a_newline_is_none_of_the_texts(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == f" {text}"


def test_the_token_before_tells_whether_a_newline_precedes(tokenizer):
    [newline], word = tokenizer.encode("\n"), tokenizer.encode("bir")
    assert tokenizer.decode(word, previous=newline) == "bir"
    assert tokenizer.decode(word, previous=word[0]) == tokenizer.decode(word) == " bir"


def test_control_tokens_are_left_out_of_decoded_text(tokenizer):
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
def test_masks_of_a_text_become_masks_and_nothing_else_does(tokenizer, text, pieces):
    ids, found = tokenizer.encode_masked(text)
    assert found == pieces
    assert ids.count(4) == len(pieces) - 1
    assert not {0, 1, 2} & set(ids)


def test_a_mask_swallows_the_space_before_it(tokenizer):
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
def test_what_is_no_text_is_refused(tokenizer, text, found):
    for encode in (tokenizer.encode, tokenizer.encode_masked):
        with pytest.raises(InputError, match=found):
            encode(text)


def changed(path, tmp_path, change):
    specification = json.loads(path.read_text("utf-8"))
    change(specification)
    (tmp_path / "tokenizer.json").write_text(json.dumps(specification))
    return tmp_path / "tokenizer.json"


def unmarked(specification):
    for token in specification["added_tokens"]:
        token["special"] = False


def test_control_tokens_are_neutralised_whatever_the_file_says_of_them(path, tmp_path):
    tokenizer = load(changed(path, tmp_path, unmarked))
    for text in CONTROL:
        assert min(tokenizer.encode(f"bir {text} iki")) > 6
    ids, _ = tokenizer.encode_masked("bir <mask> <eos> iki")
    assert ids.count(4) == 1
    assert 1 not in ids
    assert tokenizer.decode([*tokenizer.encode("bir"), 0, 4]) == " bir"


def test_a_manifest_with_other_control_tokens_does_not_fit(path):
    with pytest.raises(BundleError, match=r"has not <mask> at 5, where the manifest says"):
        load(path, 10**6, SpecialIds(pad=0, eos=1, bos=2, unk=3, mask=5))


def test_no_truncation_or_padding_of_a_file_is_kept(path, tmp_path):
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
def test_what_the_library_panics_at_is_an_error_of_ours(path, tmp_path, change):
    with pytest.raises(BundleError, match=r"tokenizer\.json .*export the model again"):
        load(changed(path, tmp_path, change))


def test_a_panic_while_encoding_is_an_error_of_ours(tokenizer, monkeypatch):
    class PanicException(BaseException):
        pass

    class Panics:
        def encode(self, *_, **__):
            raise PanicException("index out of bounds")

    monkeypatch.setattr(tokenizer, "_tokenizer", Panics())
    with pytest.raises(BundleError, match="cannot encode: index out of bounds"):
        tokenizer.encode("bir")


def test_an_interrupt_is_none_of_the_librarys_errors(tokenizer, monkeypatch):
    class Interrupted:
        def encode(self, *_, **__):
            raise KeyboardInterrupt

    monkeypatch.setattr(tokenizer, "_tokenizer", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("bir")


def test_a_tokenizer_of_another_model_is_refused(path):
    with pytest.raises(BundleError, match="the model has 100: they do not fit"):
        load(path, 100)


def test_no_piece_beyond_the_model_reaches_it(path, tmp_path):
    def sparse(specification):
        specification["model"]["vocab"]["▁bir"] = 10**6

    tokenizer = load(changed(path, tmp_path, sparse))
    assert tokenizer.encode("iki")
    with pytest.raises(BundleError, match="has a piece with id 1000000, the model has 1000000: they do not fit"):
        tokenizer.encode("bir")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"\xff": 1}'])
def test_a_malformed_file_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BundleError, match="cannot be loaded"):
        load(tmp_path / "tokenizer.json", 512)
