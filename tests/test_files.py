"""Read untrusted files: what is accepted, and what is refused with an error that names the file."""

import os
import threading

import pytest

from diffutron_ort.errors import BundleError, BundleFileError, CheckpointError
from diffutron_ort.files import CHECKPOINT, MOST_DEPTH, MOST_VALUES, Fields, parse_object, read_bytes, read_object


def test_a_regular_file_is_read_whole(tmp_path):
    (tmp_path / "f").write_bytes(b"\x00abc")
    assert read_bytes(tmp_path / "f", most=4) == b"\x00abc"


def test_a_link_to_a_regular_file_is_followed(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    assert read_bytes(tmp_path / "link") == b"abc"


def test_one_byte_too_many_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(b"abcde")
    with pytest.raises(BundleError, match="f has more than 4 bytes"):
        read_bytes(tmp_path / "f", most=4)


def test_a_file_that_is_not_regular_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    refused = []

    def read_all():
        for name in ("pipe", "endless", "folder"):
            with pytest.raises(BundleError, match=f"^{tmp_path / name} is not a regular file"):
                read_bytes(tmp_path / name)
            refused.append(name)

    thread = threading.Thread(target=read_all, daemon=True)
    thread.start()
    thread.join(120)
    assert refused == ["pipe", "endless", "folder"]


@pytest.mark.parametrize("name", ["none", "none/inside", "file/inside", "\0", "n" * 300])
def test_a_path_that_does_not_exist_is_refused(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError):
        read_bytes(tmp_path / name)


def test_the_error_depends_on_the_artifact(tmp_path):
    with pytest.raises(BundleFileError, match="x is missing; export the model again"):
        read_bytes(tmp_path / "x")
    with pytest.raises(CheckpointError, match="x is missing; take an unaltered copy"):
        read_bytes(tmp_path / "x", CHECKPOINT)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff{}",
        b"\xef\xbb\xbf{}",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a": ' + b"[" * MOST_DEPTH + b"]" * MOST_DEPTH + b"}",
        b"[]",
        b"null",
        b'"text"',
    ],
)
def test_invalid_json_is_refused(content):
    with pytest.raises(BundleError, match=r"^x\.json "):
        parse_object(content, "x.json")


def test_valid_json_is_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": {"b": [1, 2.5, "\\ud83d\\ude00", null, true]}, "c": []}')
    assert read_object(path).values == {"a": {"b": [1, 2.5, "\U0001f600", None, True]}, "c": []}
    assert parse_object(b'{"a": ' + b"[" * (MOST_DEPTH - 1) + b"]" * (MOST_DEPTH - 1) + b"}", "x.json")


HOLDS = {
    "integer": 3,
    "whole": 64.0,
    "half": 0.5,
    "large": 10**400,
    "yes": True,
    "text": "abc",
    "ids": [1, 2],
    "names": ["a", "b"],
    "object": {"x": 1},
    "objects": {"a": {"x": 1}},
    "rows": [{"x": 1}],
    "null": None,
}


def fields():
    return Fields(HOLDS, "f.json")


def test_a_value_of_the_right_type_and_size_is_returned():
    f = fields()
    assert f.integer("integer", 3, 3) == 3
    assert f.integer("whole", 0, 64) == 64
    assert type(f.integer("whole", 0, 64)) is int
    assert (f.number("half", 0, 1), f.number("integer", 0, 9)) == (0.5, 3.0)
    assert f.boolean("yes") is True
    assert f.text("text", most=3) == "abc"
    assert (f.integers("ids", 1, 2), f.texts("names")) == ([1, 2], ["a", "b"])
    assert f.fields("object").integer("x", 0, 1) == 1
    assert f.each("objects")["a"].integer("x", 0, 1) == 1
    assert f.rows("rows")[0].integer("x", 0, 1) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda f: f.integer("integer", 4, 9),
        lambda f: f.integer("integer", 0, 2),
        lambda f: f.integer("half", 0, 9),
        lambda f: f.integer("large", 0, 9),
        lambda f: f.integer("yes", 0, 9),
        lambda f: f.integer("text", 0, 9),
        lambda f: f.integer("null", 0, 9),
        lambda f: f.number("large", 0, 9),
        lambda f: f.number("yes", 0, 9),
        lambda f: f.boolean("integer"),
        lambda f: f.text("integer"),
        lambda f: f.text("text", most=2),
        lambda f: f.texts("ids"),
        lambda f: f.texts("names", most=0),
        lambda f: f.texts("text"),
        lambda f: f.integers("ids", 2, 9),
        lambda f: f.integers("names", 0, 9),
        lambda f: f.integers("object", 0, 9),
        lambda f: f.fields("ids"),
        lambda f: f.each("object"),
        lambda f: f.each("rows"),
        lambda f: f.rows("ids"),
        lambda f: f.rows("object"),
        lambda f: f.fields("object").text("x"),
        lambda f: f.rows("rows")[0].text("x"),
        lambda f: f.text("missing"),
    ],
)
def test_any_other_value_is_an_error_that_names_the_file(ask):
    with pytest.raises(BundleError, match=r"^f\.json.*; export the model again$"):
        ask(fields())


def test_null_counts_as_missing():
    assert [name in fields() for name in ("integer", "null", "missing")] == [True, False, False]


def test_an_error_says_where_in_the_file():
    with pytest.raises(BundleError, match=r"f\.json: objects\.a: x is 1, expected a string"):
        fields().each("objects")["a"].text("x")
    with pytest.raises(BundleError, match=r"f\.json: rows\[0\]: x is 1, expected true or false"):
        fields().rows("rows")[0].boolean("x")


@pytest.mark.parametrize("value", [b"{}", b"0", b'"a"', b"[0]"])
def test_too_many_values_are_refused_before_they_are_parsed(value):
    content = b'{"a": [' + b",".join([value] * (MOST_VALUES + 1)) + b"]}"
    with pytest.raises(BundleError, match=f"f has more than {MOST_VALUES} values"):
        parse_object(content, "f")
    assert parse_object(b'{"a": [' + b",".join([b"0"] * 10**5) + b"]}", "f").integers("a", 0, 0) == [0] * 10**5


def test_a_long_message_is_shortened():
    for error in (BundleError("x" * 10**6), BundleFileError("x" * 10**6), CheckpointError("x" * 10**6)):
        assert len(str(error)) < 2100
    assert str(BundleFileError("short")) == "short"
