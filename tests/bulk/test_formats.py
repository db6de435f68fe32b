"""Files of records: what is in them, whatever their bytes are."""

import csv
import gzip
import io
import json

import pytest

from diffutron_ort.bulk import lines
from diffutron_ort.bulk.encoding import check_output, encoding
from diffutron_ort.bulk.formats import CSV, JSONL, TXT, kind_of, open_source
from diffutron_ort.bulk.lines import count_lines
from diffutron_ort.errors import DiffutronError, InputError, OptionError


def read(path, content, kind, column="prompt"):
    """Return the records of a file, with the message in place of one that cannot be read."""
    path.write_bytes(content)
    source = open_source(str(path), kind, column)
    found = [source.format.read(number, row) for number, row in enumerate(source.rows)]
    assert [line.number for line in found] == list(range(len(found)))
    assert all(line.record == {"line": line.number + 1} for line in found if line.error)
    return [str(line.error) if line.error else line.record for line in found]


@pytest.mark.parametrize(
    "content",
    [
        b'{"prompt": "\xc3\xa7"}\n{"prompt": "b"}\n',
        b'{"prompt": "\xc3\xa7"}\n{"prompt": "b"}',
        b'\xef\xbb\xbf{"prompt": "\xc3\xa7"}\r\n{"prompt": "b"}\r\n',
        b'{"prompt": "\\u00e7"}\n {"prompt" :"b"} \n\n\r\n\n',
        gzip.compress(b'{"prompt": "\xc3\xa7"}\n') + gzip.compress(b'{"prompt": "b"}\n'),
    ],
    ids=["plain", "no last line end", "BOM and CRLF", "empty end", "two gzip members"],
)
def test_the_same_records_in_other_bytes(tmp_path, content):
    assert read(tmp_path / "in", content, JSONL) == [{"prompt": "ç"}, {"prompt": "b"}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2 is not valid JSON"),
        (b"[1]", "line 2 holds a list"),
        (b"", "line 2 is blank"),
        (b" \t", "line 2 is blank"),
        (b'{"a": NaN}', "line 2 is not valid JSON"),
        (b'{"a": 1, "a": 2}', "same key twice"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"a": "\xff"}', "can't decode byte"),
        (b'{"a": "\0"}', "line 2 is not valid JSON"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "line 2 is"),
        (b'{"prompt": "' + b"a" * 2**20 + b'"}', "line 2 has more than 1048576 bytes"),
    ],
)
def test_a_bad_line_says_so_and_harms_no_other(tmp_path, line, message):
    before, bad, after = read(tmp_path / "in", b'{"n": 1}\n' + line + b'\n{"n": 3}\n', JSONL)
    assert (before, after) == ({"n": 1}, {"n": 3})
    assert message in bad


def test_a_prompt_is_a_line(tmp_path):
    content = b" \x0b a\x85\r\nb\0\n\n\xff\n\xe2\x80\xa8c\r"
    assert read(tmp_path / "in", content.replace(b"\x85", b"\xc2\x85"), TXT) == [
        {"prompt": " \x0b a\x85"},
        {"prompt": "b\0"},
        {"prompt": ""},
        "line 4 is not UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        {"prompt": "\u2028c"},
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_may_hold_anything(tmp_path, delimiter):
    text = io.StringIO()
    cells = [["1", 'a,b;c\td "e"\r\n\nf'], ["", ""], ["2", "ğ"]]
    csv.writer(text, delimiter=delimiter).writerows([["id", "soru"], *cells])
    found = read(tmp_path / "in", b"\xef\xbb\xbf" + text.getvalue().encode(), CSV, "soru")
    assert found == [{"id": id_, "soru": question} for id_, question in cells]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,a,b", "row 2 has 3 cells, and there are 2 columns"),
        ("1", "row 2 has 1 cells"),
        ('1,"a"b', "row 2 is not CSV"),
        ('1,"' + "a" * 140_000 + '"', "row 2 is not CSV: field larger than field limit"),
        ('1,"' + ("a" * 1000 + "\n") * 100 + "a" * 1_000_000 + '"', "row 2 "),
    ],
)
def test_a_bad_row_says_so_and_harms_no_other(tmp_path, rows, message):
    found = read(tmp_path / "in", f"id,prompt\n0,a\n{rows}\n2,c\n".encode(), CSV)
    assert (found[0], found[-1]) == ({"id": "0", "prompt": "a"}, {"id": "2", "prompt": "c"})
    assert message in found[1]


def test_a_quote_that_is_never_closed_does_not_take_the_whole_file(tmp_path):
    found = read(tmp_path / "in", b'id,prompt\n0,"a\n' + b'1,"","b"\n' * 300_000, CSV)
    assert isinstance(found[0], str)
    assert len(found) > 100_000


def test_in_a_table_of_one_column_an_empty_line_is_an_empty_cell(tmp_path):
    assert read(tmp_path / "in", b"prompt\na\n\nb\n\n", CSV) == [{"prompt": "a"}, {"prompt": ""}, {"prompt": "b"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column 'prompt'"),
        (b"id,text\n", "has no column 'prompt'"),
        (b"prompt,id,id\n", "two columns of the same name"),
        (b"prompt,completion\n", "already has a column 'completion'"),
        (b'"prompt\n', "no row of names"),
        (b"\xff\n", "no row of names"),
        ("prompt\na".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_at_once(tmp_path, content, message):
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_source(str(tmp_path / "in"), CSV)


@pytest.mark.parametrize("kind", [JSONL, CSV])
@pytest.mark.parametrize("cut", [slice(0, -12), slice(0, 5000)], ids=["without its end", "in the middle"])
def test_a_compressed_file_that_is_cut_off_is_no_shorter_file(tmp_path, kind, cut):
    content = b"prompt\n" + b"".join(b'"%x"\n' % hash(i * 0.1) for i in range(5000))
    with pytest.raises(DiffutronError, match="damaged or cut off"):
        read(tmp_path / "in", gzip.compress(content, mtime=0)[cut], kind)


def test_only_a_line_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MOST_LINE", 10)
    assert read(tmp_path / "in", b"123456789\n1234567890\n" + b"x" * 1000 + b"\nb", TXT) == [
        {"prompt": "123456789"},
        "line 2 has more than 10 bytes, the limit",
        "line 3 has more than 10 bytes, the limit",
        {"prompt": "b"},
    ]


@pytest.mark.parametrize(
    ("name", "given", "kind"),
    [
        ("a.jsonl", None, JSONL),
        ("A.JSONL.GZ", None, JSONL),
        ("a.ndjson", None, JSONL),
        ("b.c.txt", None, TXT),
        ("a.csv.gz", None, CSV),
        ("-", None, JSONL),
        ("/dev/stdin", TXT, TXT),
        ("-", CSV, CSV),
    ],
)
def test_a_name_says_the_format(name, given, kind):
    assert kind_of(name, given) == kind


@pytest.mark.parametrize("name", ["a", "a.json", "a.gz", ".csv", "a.parquet", "/dev/stdin"])
def test_a_name_that_says_no_format_is_refused(name):
    with pytest.raises(OptionError, match=r"\.jsonl, \.txt, \.csv"):
        kind_of(name)


def test_lines_are_counted(tmp_path):
    path = tmp_path / "in"
    for content, count in ((b"", 0), (b"a", 1), (b"a\nb\n", 2), (gzip.compress(b"a\nb"), 2)):
        path.write_bytes(content)
        assert count_lines(str(path)) == count
    assert count_lines("-") is None


def test_json_is_written_as_it_was_read(tmp_path):
    record = {"id": 2**70, "prompt": "ğ\u2028\n\0", "x": [1.5, None, {"y": True}]}
    [found] = read(tmp_path / "in", json.dumps(record).encode(), JSONL)
    line = encoding(JSONL, open_source(str(tmp_path / "in"), JSONL).format).line(found)
    assert json.loads(line) == record
    assert line.count("\n") == 1
    assert "ğ" in line


def test_a_table_is_written_as_it_was_read_with_columns_added(tmp_path):
    (tmp_path / "in").write_text("error;id;prompt\n", encoding="utf-8")
    written = encoding(CSV, open_source(str(tmp_path / "in"), CSV).format)
    assert written.begin == "id;prompt;completion;finish_reason;error\r\n"
    record = {"id": "1", "prompt": 'a\r"b"\n;', "completion": "c\rd\n", "finish_reason": "stop"}
    [cells] = csv.reader(io.StringIO(written.line(record), newline=""), delimiter=";")
    assert cells == [*record.values(), ""]


@pytest.mark.parametrize(("kind", "source"), [(TXT, TXT), (TXT, JSONL), (CSV, JSONL)])
def test_an_output_that_loses_something_is_refused(kind, source):
    with pytest.raises(OptionError, match="name it .jsonl"):
        check_output(kind, source)
