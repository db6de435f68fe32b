"""The documents that files hold, and what becomes of those that cannot be read."""

import gzip

import pytest

from diffutron_ort.bulk.lines import MOST_LINE
from diffutron_ort.errors import InputError
from diffutron_ort.perplexity.documents import MOST_BYTES, count_documents, format_of, open_documents


def read(path, content, kind=None, field="text"):
    path.write_bytes(content)
    return list(open_documents(str(path), kind, field))


def texts(found):
    assert all(document.error is None for document in found)
    return [document.text for document in found]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a", "text"),
        ("a.txt.gz", "text"),
        ("A.JSONL", "jsonl"),
        ("a.ndjson.gz", "jsonl"),
        ("a.tsv", "csv"),
        ("-", "text"),
    ],
)
def test_the_format_is_what_the_name_says(name, kind):
    assert format_of(name) == kind
    assert format_of(name, "lines") == "lines"


@pytest.mark.parametrize(
    ("name", "content", "kind", "expected"),
    [
        ("a.txt", "bir\niki\n\nüç\n".encode(), None, ["bir\niki\n\nüç"]),
        ("a.txt", b"\xef\xbb\xbfbir\r\niki\r\n", None, ["bir\r\niki"]),
        ("a.txt", b"", None, [""]),
        ("a.txt", b"bir\n\niki\n\n", "lines", ["bir", "", "iki"]),
        ("a.jsonl", b'{"text": "bir"}\n{"text": "", "id": 2}\n', None, ["bir", ""]),
        ("a.csv", b'id;text\n1;"bir\niki"\n2;\n', None, ["bir\niki", ""]),
        ("a.gz", gzip.compress("ı\n".encode(), mtime=0), "lines", ["ı"]),
    ],
)
def test_documents_are_read(tmp_path, name, content, kind, expected):
    found = read(tmp_path / name, content, kind)
    assert texts(found) == expected
    assert count_documents(str(tmp_path / name), kind) >= len(expected)


def test_documents_have_the_names_of_their_places(tmp_path):
    path = tmp_path / "a.txt"
    assert [document.name for document in read(path, b"bir\niki\n")] == [str(path)]
    assert [document.name for document in read(path, b"bir\niki\n", "lines")] == [f"{path}:1", f"{path}:2"]


def test_another_field_can_be_asked_for_even_one_that_answers_are_written_to(tmp_path):
    assert texts(read(tmp_path / "a.csv", b"prompt,completion\nx,bir\n", field="completion")) == ["bir"]
    assert texts(read(tmp_path / "a.jsonl", b'{"completion": "bir"}', field="completion")) == ["bir"]


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("a.txt", b"bir\n\xff\n", None, "line 2 of .*a.txt is not UTF-8"),
        ("a.txt", b"bir\n\xff\n", "lines", "line 2 is not UTF-8"),
        ("a.txt", b"x" * (MOST_LINE + 1), None, "has more than .* bytes, the limit: split it, .* --format lines"),
        ("a.txt", b"x\n" * (MOST_BYTES // 2 + 1), None, "a.txt has more than .* one document: split it"),
        (
            "a.jsonl",
            b'{"text": "bir"}\n{"txt": "iki"}\n',
            None,
            "line 2 has no 'text', .*: name one by --column",
        ),
        ("a.jsonl", b'{"text": "bir"}\n{"text": 5}\n', None, "line 2 has 5 as 'text': must be a text"),
        ("a.jsonl", b'{"text": "bir"}\nbir\n', None, "line 2 is not valid JSON"),
        ("a.jsonl", b'{"text": NaN}\n', None, "NaN is not a finite number"),
        ("a.csv", b"text,id\nbir,1\niki\n", None, "row 2 has 1 cells"),
        ("a.gz", gzip.compress(b"bir\niki\n" * 999, mtime=0)[:-9], "lines", "is damaged or cut off"),
    ],
)
def test_what_cannot_be_read_is_a_document_with_an_error(tmp_path, name, content, kind, message):
    found = read(tmp_path / name, content, kind)
    assert [document.error for document in found[:-1]] == [None] * (len(found) - 1)
    assert isinstance(found[-1].error, InputError) or "damaged" in message
    with pytest.raises(type(found[-1].error), match=message):
        raise found[-1].error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "bir".encode("utf-16"), "is not UTF-8, but UTF-16"),
        ("a.csv", b"id,txt\n", "has no column 'text': .* name one by --column"),
    ],
)
def test_a_file_that_cannot_be_used_at_all_is_refused_when_it_is_opened(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path / name, content)
    with pytest.raises(FileNotFoundError):
        open_documents(str(tmp_path / "none"))


def test_only_one_line_is_held(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"bir\n" * 100_000)
    found = open_documents(str(path), "lines")
    assert next(found).text == "bir"
    path.write_bytes(b"")  # all that has been read is one buffer
    assert sum(1 for _ in found) < 100_000 - 1
