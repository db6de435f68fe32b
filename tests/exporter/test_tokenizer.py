"""The tokenizer's files: special ids, damage, and where an answer ends."""

import json
from pathlib import Path

import pytest

from diffutron_ort.errors import CheckpointError
from diffutron_ort_export.tokenizer import SPECIAL_IDS, read_tokenizer
from tests.exporter.conftest import TINY, edit_json

CONFIG = json.loads((TINY / "checkpoint" / "config.json").read_text())


def refused(folder: Path, message: str, **config: object) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_tokenizer(folder, CONFIG | config)


def edit_tokenizer(folder: Path, change) -> None:
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_tiny(checkpoint: Path) -> None:
    tokenizer = read_tokenizer(checkpoint, CONFIG)
    assert tokenizer.size == 512
    assert tokenizer.special_ids == SPECIAL_IDS == {"pad": 0, "eos": 1, "bos": 2, "unk": 3, "mask": 4}
    assert tokenizer.files["tokenizer.json"] == (checkpoint / "tokenizer.json").read_bytes()
    assert tokenizer.answer_end == (310, 276, 267, 361, 312, 277)


def test_the_end_of_an_answer_after_an_added_newline(checkpoint: Path) -> None:
    """mmBERT's newline is an added token; what follows it is tokenized as at the start of a text."""

    def add_newline(value: dict) -> None:
        added = value["added_tokens"][-1] | {"id": 512, "content": "\n", "special": False}
        value["added_tokens"].append(added)

    before = read_tokenizer(checkpoint, CONFIG).answer_end
    edit_tokenizer(checkpoint, add_newline)
    assert read_tokenizer(checkpoint, CONFIG).answer_end == before


def test_special_tokens_that_are_objects(checkpoint: Path) -> None:
    edit_json(checkpoint / "tokenizer_config.json", mask_token={"content": "<mask>", "lstrip": True})
    assert read_tokenizer(checkpoint, CONFIG).special_ids["mask"] == 4


def test_special_tokens_map_is_read_too(checkpoint: Path) -> None:
    (checkpoint / "special_tokens_map.json").write_text(json.dumps({"mask_token": "<unk>"}))
    refused(checkpoint, "mask token '<unk>' has id 3, expected 4")


@pytest.mark.parametrize(("role", "other", "found"), [("pad", "<eos>", 1), ("mask", "<nowhere>", None)])
def test_another_special_id(checkpoint: Path, role: str, other: str, found: int | None) -> None:
    edit_json(checkpoint / "tokenizer_config.json", **{f"{role}_token": other})
    refused(checkpoint, f"{role} token '{other}' has id {found}, expected {SPECIAL_IDS[role]}")


def test_a_config_that_contradicts_the_tokenizer(checkpoint: Path) -> None:
    refused(checkpoint, "mask_token_id is 5 and the tokenizer's is 4", mask_token_id=5)


def test_a_config_without_special_ids(checkpoint: Path) -> None:
    assert read_tokenizer(checkpoint, {}).special_ids == SPECIAL_IDS


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    refused(checkpoint, f"checkpoint has no {name}; expected a fast tokenizer's files")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": "1.0"', b"\xff\xfe"])
def test_a_damaged_tokenizer(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "tokenizer.json").write_bytes(content)
    refused(checkpoint, "tokenizer.json is (damaged|not JSON as it should be): .*take an unaltered copy")


def test_damage_that_makes_tokenizers_panic(checkpoint: Path) -> None:
    """A post-processor that names an unknown token panics at the first encoding: a BaseException, no Exception."""
    edit_tokenizer(checkpoint, lambda v: v["post_processor"].update(special_tokens={}))
    refused(checkpoint, "tokenizer.json is damaged")
