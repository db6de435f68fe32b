"""The output vocabulary: which pieces are kept, and that graph and runtime speak of full-vocabulary ids."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.errors import OptionError
from diffutron_ort_export import export
from diffutron_ort_export.check.coverage import coverage
from diffutron_ort_export.check.session import GraphSession
from diffutron_ort_export.checkpoint.output_vocabulary import is_sign, read_output_vocabulary
from diffutron_ort_export.checkpoint.source import open_source
from tests.conftest import GOLDEN

CHECKPOINT = GOLDEN / "tiny" / "checkpoint"
SAME = 5e-5
MASK = 4


@pytest.fixture(scope="module")
def source():
    return open_source(str(CHECKPOINT))


@pytest.fixture(scope="module")
def kept() -> list[int]:
    """The special ids and every third one: columns that are not ids."""
    return sorted({0, 1, 2, 3, 4, *range(5, 512, 3)})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, kept: list[int]) -> Path:
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "ids.txt").write_text(json.dumps(kept))
    export(CHECKPOINT, folder / "out", variants=("fp32", "int8"), exclude=["*"], output_vocabulary=folder / "ids.txt")
    return folder / "out"


@pytest.fixture(scope="module")
def manifest(small: Path) -> dict:
    return json.loads((small / "diffutron.json").read_text())


def test_signs() -> None:
    assert all(map(is_sign, ("", "12", "?!", " ", "€", "\n1.")[:-1]))
    assert not any(map(is_sign, ("a", "1a", "ı")))


def test_what_a_text_keeps(source, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Merhaba dünya\n", encoding="utf-8")
    ids = read_output_vocabulary(tmp_path / "text.txt", source.tokenizer)
    assert (np.diff(ids) > 0).all()
    assert {0, 1, 2, 3, 4, *source.tokenizer.answer_end} <= set(ids.tolist())
    assert len(ids) < source.shape.vocab_size
    (tmp_path / "more.txt").write_text("Merhaba dünya\nkitap deniz okul", encoding="utf-8")
    assert set(ids.tolist()) < set(read_output_vocabulary(tmp_path / "more.txt", source.tokenizer).tolist())


@pytest.mark.parametrize("content", ["", " \n", "[]", "[1, 512]", "7 99999"])
def test_what_is_no_vocabulary(source, tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(OptionError, match="output vocabulary"):
        read_output_vocabulary(tmp_path / "file", source.tokenizer)


def test_a_file_that_is_not_there_or_no_text(source, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name in ("bytes", "nowhere"):
        with pytest.raises(OptionError, match="give a text file"):
            read_output_vocabulary(tmp_path / name, source.tokenizer)


def test_a_byte_order_mark_is_none_of_the_text(source, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("\ufeff5, 6\n7", encoding="utf-8")
    (tmp_path / "plain").write_text("5, 6\n7", encoding="utf-8")
    found, expected = (read_output_vocabulary(tmp_path / name, source.tokenizer) for name in ("ids", "plain"))
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "content",
    [
        *("1;2;3", "# ids\n1\n2\n3", "1, 2, -3", "{1, 2, 3}", "1 2 3 # the rest\n4 5 6", '{"ids": [1, 2, 3]}'),
        *("[1, 2, 3.0]", "1-512", "0x01 0x02 0x03", "1|2|3", '"1", "2", "3"', "1.\n2.\n3.", "(1, 2)", "1_0"),
        *("# the ids of the pieces that this needs\n1\n2\n3\n4", "ids = [1, 2, 3]"),
    ],
)
def test_what_is_nearly_a_list_of_ids(source, tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(OptionError, match="neither a text nor a list of ids: .*; give ids separated by"):
        read_output_vocabulary(tmp_path / "file", source.tokenizer)


@pytest.mark.parametrize(
    "content", ["On iki artı beş on yedi eder: 12 + 5 = 17", "a", "1. Adım: yumurtaları kır.\n2. Karıştır."]
)
def test_texts_with_numbers_are_texts(source, tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content, encoding="utf-8")
    assert read_output_vocabulary(tmp_path / "file", source.tokenizer).size


@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "huge", "utf-16", "utf-16-le", "digits", "nul"])
def test_files_that_are_no_text(source, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**36)
    elif kind.startswith("utf"):
        path.write_text("Merhaba dunya", encoding=kind)
    else:
        path.write_text("9" * 10_000 if kind == "digits" else "Merhaba\0")
    with pytest.raises(OptionError):
        read_output_vocabulary(path, source.tokenizer)


def test_a_long_line_is_read_in_parts(source, tmp_path: Path) -> None:
    (tmp_path / "long").write_text("Merhaba dünya kitap " * 2000, encoding="utf-8")
    (tmp_path / "short").write_text("Merhaba dünya kitap Merhaba", encoding="utf-8")
    found, expected = (read_output_vocabulary(tmp_path / name, source.tokenizer) for name in ("long", "short"))
    assert found.tolist() == expected.tolist()


def test_coverage_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]))
    found = coverage(np.array([0, 1]), logits, np.array([0, 1, 1, 2]))
    assert found == {"pieces": 2, "of": 3, "text": 0.75, "best": 0.5, "mass_outside": pytest.approx((0.25 + 0.6) / 2)}


def test_the_manifest_names_the_columns_and_the_card_what_is_lost(manifest: dict, kept: list[int]) -> None:
    assert set(kept) <= set(manifest["output_vocabulary"])
    for variant in manifest["variants"].values():
        card = variant["fidelity"]["output_vocabulary"]
        assert card["pieces"] == len(manifest["output_vocabulary"])
        assert card["of"] == 512
        assert 0 < card["mass_outside"] < 1


def sessions(
    small: Path, manifest: dict, tiny_bundle: Path, name: str
) -> tuple[GraphSession, GraphSession, np.ndarray]:
    shape = open_source(str(CHECKPOINT)).shape
    pieces = np.array(manifest["output_vocabulary"])
    return (
        GraphSession(small / "onnx" / name, shape),
        GraphSession(tiny_bundle / "onnx" / "denoiser.onnx", shape),
        pieces,
    )


@pytest.mark.parametrize("name", ["denoiser.onnx", "denoiser_int8.onnx"])
def test_the_graph_says_of_its_columns_what_the_whole_says(
    small: Path, manifest: dict, tiny_bundle: Path, name: str
) -> None:
    """Prompts hold pieces that are not kept, seen ids too; int8 leaves every matrix in float32 here."""
    part, whole, pieces = sessions(small, manifest, tiny_bundle, name)
    ids = np.random.default_rng(3).integers(5, 512, size=(2, 12))
    assert not np.isin(ids, pieces).all()
    ids[:, ::3] = MASK
    rows, penalty = np.flatnonzero(ids.ravel() == MASK), np.array([1.7, 1], np.float32)
    given = {"seen_ids": np.sort(np.where(ids == MASK, 7, ids), axis=1), "repetition_penalty": penalty}
    places = np.tile(np.arange(12), (2, 1))
    found, expected = part.run(ids, places, rows, **given), whole.run(ids, places, rows, **given)
    np.testing.assert_allclose(found["logits"], expected["logits"][:, pieces], atol=SAME)
    for output in ("key.0", "value.6"):
        np.testing.assert_allclose(found[output], expected[output], atol=SAME)
    for row in range(len(rows)):
        penalised = expected["logits"][row].astype(np.float64)
        seen = np.unique(given["seen_ids"][rows[row] // 12])
        p = penalty[rows[row] // 12]
        penalised[seen] = np.where(penalised[seen] > 0, penalised[seen] / p, penalised[seen] * p)
        order = pieces[np.argsort(-penalised[pieces], kind="stable")]
        np.testing.assert_allclose(found["top_logits"][row], penalised[order[:64]], atol=SAME)
        assert found["top_ids"][row, 0] == order[0]
        odds = np.exp(penalised[order[1:]] - penalised[order[0]])
        np.testing.assert_allclose(found["rest"][row], odds.sum(), rtol=1e-4)


def test_the_table_is_stored_once(small: Path, tiny_bundle: Path) -> None:
    part, whole = (folder / "onnx" / "denoiser.onnx.data" for folder in (small, tiny_bundle))
    assert part.stat().st_size < whole.stat().st_size + 64 * 1024  # the place of each row is new, the bias is shorter
    graph = onnx.load(small / "onnx" / "denoiser.onnx", load_external_data=False).graph
    stored = {i.name: {e.key: e.value for e in i.external_data} for i in graph.initializer if i.external_data}
    table, head = stored["embeddings.tok_embeddings.weight"], stored["head.0.weight"]
    assert head["offset"] == table["offset"]
    assert int(head["length"]) < int(table["length"])


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.5}, {"cfg_scale": 1.5}, {"suppress_tokens": (5, 6)}, {"cache": "block"}]
)
def test_only_kept_pieces_are_ever_generated(small: Path, manifest: dict, options: dict) -> None:
    """At temperature 1.5 many draws fall beyond the candidates, where the columns of logits are read."""
    model = Diffutron.from_pretrained(small)
    steps = list(model.stream("Merhaba dünya", max_new_tokens=16, steps=16, early_end=False, **options))
    ids = steps[-1].ids[steps[-1].start :]
    assert MASK not in ids
    assert set(ids.tolist()) <= set(manifest["output_vocabulary"])


def test_suppressing_all_that_can_be_predicted_is_refused(small: Path, manifest: dict) -> None:
    model = Diffutron.from_pretrained(small)
    with pytest.raises(OptionError, match="leave a token"):
        model.config(suppress_tokens=tuple(manifest["output_vocabulary"]))
