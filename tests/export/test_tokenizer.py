"""The tokenizer's files: special ids, damage, and where an answer ends."""

import json
import shutil
from pathlib import Path

import pytest

from diffutron_ort.errors import CheckpointError, DiffutronWarning
from diffutron_ort_export import export
from diffutron_ort_export.check.canvases import canvases, prompts
from diffutron_ort_export.checkpoint.output_vocabulary import read_output_vocabulary
from diffutron_ort_export.checkpoint.source import open_source
from diffutron_ort_export.checkpoint.tokenizer import SAMPLES, SPECIAL_IDS, read_tokenizer
from diffutron_ort_export.checkpoint.tokenizer_json import MANY, with_short_merges
from tests.conftest import GOLDEN
from tests.export.conftest import TINY, edit_json

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
    refused(checkpoint, "tokenizer.json is (damaged|not valid JSON): .*take an unaltered copy")


def test_damage_that_makes_tokenizers_panic(checkpoint: Path) -> None:
    """A post-processor that names an unknown token panics at the first encoding: a BaseException, no Exception."""
    edit_tokenizer(checkpoint, lambda v: v["post_processor"].update(special_tokens={}))
    refused(checkpoint, "tokenizer.json is damaged")


NANO = GOLDEN.parents[1] / "models" / "nano" / "checkpoint"
PADDING = {"strategy": {"Fixed": 48}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}
TRUNCATION = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
TWICE = [{"Sequence": {"id": "A", "type_id": 0}}] * 2
STATES = {
    "padding": {"padding": PADDING | {"pad_token": "<pad>"}},
    "padding of a batch": {"padding": PADDING | {"strategy": "BatchLongest", "pad_token": "<pad>"}},
    "padding to a multiple": {
        "padding": PADDING | {"pad_to_multiple_of": 64, "pad_token": "<pad>", "direction": "Left"}
    },
    "more padding than there is memory": {"padding": PADDING | {"strategy": {"Fixed": 2**60}, "pad_token": "<pad>"}},
    "truncation": {"truncation": TRUNCATION},
    "truncation on the left": {"truncation": TRUNCATION | {"direction": "Left", "stride": 1}},
    "both": {"padding": PADDING | {"pad_token": "<pad>"}, "truncation": TRUNCATION},
    "merges left out at random": {"dropout": 0.5},
    "all merges left out": {"dropout": 1.0},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("clean", [TINY / "checkpoint", NANO], ids=["tiny", "nano"])
def test_the_saved_state_of_a_run_changes_nothing(tmp_path: Path, clean: Path, state: str) -> None:
    folder = Path(shutil.copytree(clean, tmp_path / clean.name))
    change = dict(STATES[state])
    dropout = change.pop("dropout", None)
    edit_tokenizer(folder, lambda v: (v.update(change), v["model"].update(dropout=dropout)))
    expected, found = open_source(str(clean)), open_source(str(folder))
    assert json.loads(found.tokenizer.files["tokenizer.json"]) == json.loads((clean / "tokenizer.json").read_bytes())
    assert expected.tokenizer.files["tokenizer.json"] == (clean / "tokenizer.json").read_bytes()
    assert found.tokenizer.answer_end == expected.tokenizer.answer_end
    assert found.tokenizer.size == expected.tokenizer.size
    (tmp_path / "text").write_text("Merhaba dünya\nkitap, deniz, okul ve elma\n", encoding="utf-8")
    kept = [read_output_vocabulary(tmp_path / "text", source.tokenizer).tolist() for source in (expected, found)]
    assert kept[0] == kept[1]
    masked = [[canvas.ids.tolist() for canvas in canvases(source)] for source in (expected, found)]
    assert masked[0] == masked[1]
    asked = [[ids.tolist() for ids in prompts(source, 16)] for source in (expected, found)]
    assert asked[0] == asked[1]


def test_a_bundle_is_the_same_whatever_was_saved_with_the_tokenizer(
    checkpoint: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    """The graph, its card, the stop sequence, the recorded cases: all but how tokenizer.json is laid out."""
    both = {"padding": PADDING | {"pad_token": "<pad>"}, "truncation": TRUNCATION}
    edit_tokenizer(checkpoint, lambda v: (v.update(both), v["model"].update(dropout=0.3)))
    export(checkpoint, tmp_path / "out")
    found, expected = (json.loads((b / "diffutron.json").read_text()) for b in (tmp_path / "out", tiny_bundle))
    for manifest in (found, expected):
        del manifest["files"]["tokenizer.json"]
    assert found == expected


@pytest.mark.parametrize("folder", [TINY / "checkpoint", NANO], ids=["tiny", "nano"])
def test_many_merges_become_texts_and_every_id_stays(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    pairs = read_tokenizer(folder, CONFIG)
    monkeypatch.setattr("diffutron_ort_export.checkpoint.tokenizer_json.MANY", 1)
    texts = read_tokenizer(folder, CONFIG)
    before, after = (json.loads(t.files["tokenizer.json"])["model"]["merges"] for t in (pairs, texts))
    assert [merge.split(" ") for merge in after] == before
    assert [texts.encode(text) for text in SAMPLES] == [pairs.encode(text) for text in SAMPLES]


@pytest.mark.parametrize("pair", [["▁", " "], ["#version", "s"], ["#versions", "a"]])
def test_merges_that_no_text_can_tell_stay_pairs(pair: list[str]) -> None:
    specification = {"model": {"merges": [["a", "b"]] * MANY + [pair]}}
    assert with_short_merges(specification) == specification
    specification["model"]["merges"][-1] = ["#", "version"]
    assert with_short_merges(specification)["model"]["merges"][-2:] == ["a b", "# version"]


def test_a_post_processor_that_adds_more_than_special_tokens(checkpoint: Path) -> None:
    """It counts where no special tokens are asked for, too."""
    before = read_tokenizer(checkpoint, CONFIG)
    edit_tokenizer(checkpoint, lambda v: v["post_processor"].update(single=TWICE))
    found = read_tokenizer(checkpoint, CONFIG)
    assert found.answer_end == before.answer_end
    assert json.loads(found.files["tokenizer.json"])["post_processor"] is None


def test_other_special_tokens_around_a_text_stay(checkpoint: Path) -> None:
    before = read_tokenizer(checkpoint, CONFIG)
    edit_tokenizer(checkpoint, lambda v: v["post_processor"].update(single=TWICE[:1]))
    found = read_tokenizer(checkpoint, CONFIG)
    assert found.answer_end == before.answer_end
    assert found.files["tokenizer.json"] == (checkpoint / "tokenizer.json").read_bytes()


def test_what_a_bundle_copies_of_the_settings(checkpoint: Path) -> None:
    clean = json.loads((checkpoint / "tokenizer_config.json").read_text())
    foreign = {
        "name_or_path": "/home/somebody/secret",
        "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]},
        "chat_template": "{{ ''.__class__ }}",
        "max_length": 8,
        "truncation_strategy": "longest_first",
        "pad_to_multiple_of": 64,
        "padding_side": "middle",
    }
    edit_json(checkpoint / "tokenizer_config.json", **foreign)
    found = json.loads(read_tokenizer(checkpoint, CONFIG).files["tokenizer_config.json"])
    assert found == {name: value for name, value in clean.items() if name != "padding_side"}


@pytest.mark.parametrize("role", ["pad", "mask", "unk"])
def test_bert_s_special_tokens_are_refused_early(checkpoint: Path, role: str) -> None:
    """The sampler and every host look for <mask>, whatever the settings call it."""

    def rename(value: dict) -> None:
        old, new = f"<{role}>", f"[{role.upper()}]"
        value["added_tokens"][SPECIAL_IDS[role]]["content"] = new
        value["model"]["vocab"][new] = value["model"]["vocab"].pop(old)
        value["model"]["unk_token"] = "[UNK]" if role == "unk" else "<unk>"

    edit_tokenizer(checkpoint, rename)
    edit_json(checkpoint / "tokenizer_config.json", **{f"{role}_token": f"[{role.upper()}]"})
    refused(checkpoint, rf"the {role} token is '\[{role.upper()}\]', expected '<{role}>'")


def test_a_list_of_ends(checkpoint: Path) -> None:
    assert read_tokenizer(checkpoint, CONFIG | {"eos_token_id": [1, 106]}).special_ids == SPECIAL_IDS
    refused(checkpoint, r"eos_token_id is \[2, 3\] and the tokenizer's is 1", eos_token_id=[2, 3])


def test_ids_with_a_gap(checkpoint: Path) -> None:
    edit_tokenizer(checkpoint, lambda v: v["model"]["vocab"].update({"ööö": 600}))
    refused(checkpoint, "has 513 pieces with ids up to 600, expected each id once")


DOUBLE = {"type": "Replace", "pattern": {"String": "▁"}, "content": "▁▁"}
ASTRAY = {"type": "Replace", "pattern": {"Regex": r"([\w\s]+)+\z"}, "content": "▁"}


@pytest.mark.parametrize(
    ("normalizer", "message"),
    [
        ({"type": "Sequence", "normalizers": [DOUBLE] * 12}, "its normalizer can make a text"),
        (ASTRAY, "its normalizer has a Replace with a regular expression"),
        (
            {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [ASTRAY]}]},
            "its normalizer has a Replace with a regular",
        ),
    ],
)
def test_what_may_never_end_is_refused_before_it_runs(checkpoint: Path, normalizer: dict, message: str) -> None:
    edit_tokenizer(checkpoint, lambda v: v.update(normalizer=normalizer))
    refused(checkpoint, f"tokenizer.json: {message}.*; no bundle can hold it")


@pytest.mark.parametrize("setting", ["single_word", "lstrip", "rstrip"])
def test_what_only_python_reads_is_said(checkpoint: Path, setting: str) -> None:
    def add(value: dict) -> None:
        value["added_tokens"].append(
            value["added_tokens"][0] | {"id": 512, "content": "kuş", "special": False, setting: True}
        )

    edit_tokenizer(checkpoint, add)
    with pytest.warns(DiffutronWarning, match=f"added tokens with {setting}: Python can read the bundle"):
        read_tokenizer(checkpoint, CONFIG)
