"""The command's arguments, what it says, and what it does not load."""

import argparse
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.errors import CheckpointError, OptionError
from diffutron_ort_export import command, request
from diffutron_ort_export.recipes import DEFAULTS, RECIPES, Recipe, runnable
from diffutron_ort_export.request import VARIANTS, Request, check_variants, resolve_context
from tests.export.conftest import TINY


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_arguments() -> None:
    given = parse(
        *("a/b", "out", "--variant", "fp32", "int8", "--adapter", "lora", "--revision", "abc"),
        *("--context-length", "99", "--exclude", "head.*", "model.layers.0.mlp.Wo", "--accept"),
        *("--output-vocabulary", "words.txt", "--thorough"),
    )
    assert vars(given) == {
        "source": "a/b",
        "out": "out",
        "variant": [["fp32", "int8"]],
        "exclude": [["head.*", "model.layers.0.mlp.Wo"]],
        "accept": True,
        "output_vocabulary": "words.txt",
        "adapter": "lora",
        "revision": "abc",
        "context_length": 99,
        "thorough": True,
    }
    bare = parse("a", "b")
    assert (bare.variant, bare.exclude, bare.accept, bare.output_vocabulary) == (None, None, False, None)
    assert bare.thorough is False
    assert parse("a", "b", "--exclude").exclude == [[]]


def requested(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Request:
    """Return what the command asks for."""
    found: list[Request] = []
    monkeypatch.setattr(command, "write", lambda request, report: found.append(request))
    monkeypatch.setattr(request, "check_source", lambda source, revision: None)
    command.run(parse(*arguments))
    [one] = found
    return one


@pytest.mark.parametrize(
    ("arguments", "variants", "exclude"),
    [
        ("a b", ("fp32",), None),
        ("a b --variant fp32 int8", ("fp32", "int8"), None),
        ("a b --variant fp32,int8", ("fp32", "int8"), None),
        ("a b --variant fp32, int8", ("fp32", "int8"), None),
        ("a b --variant fp32 --variant int8,fp16 fp32", ("fp32", "int8", "fp16"), None),
        ("--variant fp32 int8 a b", ("fp32", "int8"), None),
        ("--variant int8 a b", ("int8",), None),
        ("--variant fp32,int8 a b", ("fp32", "int8"), None),
        ("--variant=fp32,int8 a b", ("fp32", "int8"), None),
        ("a --variant fp32 int8 b", ("fp32", "int8"), None),
        ("--variant fp32 a b --variant int8", ("fp32", "int8"), None),
        ("--variant int8 -- a b", ("int8",), None),
        ("--exclude x y a b --variant int8", ("int8",), ("x", "y")),
        ("--exclude a b --variant int8", ("int8",), ()),
        ("--exclude x --variant int8 a b", ("int8",), ("x",)),
        ("a --exclude x b --variant int8", ("int8",), ("x",)),
        ("a b --variant int8 --exclude", ("int8",), ()),
        ("a b --variant int8 --exclude x --exclude y", ("int8",), ("x", "y")),
    ],
)
def test_lists_do_not_eat_source_and_out(monkeypatch, arguments: str, variants: tuple, exclude: tuple | None) -> None:
    found = requested(monkeypatch, *arguments.split())
    assert (found.source, found.out, found.variants, found.exclude) == ("a", "b", variants, exclude)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "SOURCE and OUT missing"),
        ("a", "OUT missing"),
        ("--variant fp32", "SOURCE and OUT missing"),
        ("--variant fp32 a", "SOURCE and OUT missing"),
        ("a --variant fp32 int8", "OUT missing"),
        (
            "a b --variant fp32 int2",
            "variant 'int2': there are fp32, int8, int8-batch, fp16, plain; .*mean int8",
        ),
        ("a b --variant fp32,int2", "variant 'int2'"),
        ("--variant int2 a b", "variant 'int2'"),
        ("a b --variant FP-16", "did you mean fp16"),
        ("a b --variant plain", "plain alone: nothing here generates from it"),
        ("a b --exclude x", r"exclude \['x'\]: only int8 leaves matrices out"),
        ("a b --context-length 0", "context length 0: choose from 1"),
    ],
)
def test_wrong_usage(monkeypatch: pytest.MonkeyPatch, arguments: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        requested(monkeypatch, *arguments.split())


@pytest.mark.parametrize(
    ("asked", "name", "most", "length"),
    [
        (None, "diffutron/DiffutronLM-0.3B-Instruct", 8192, 256),
        (None, "diffutron/DiffutronLM-0.3B-Base", 8192, 512),
        *((None, name, 8192, 512) for name in ("my-base", "my_base", "MY-BASE", "TinyBase", "Base-v2", "my-base-1.1")),
        *((None, name, 8192, 256) for name in ("database", "my-base-instruct", "Based", "base" + ".1" * 99 + "x")),
        (None, "diffutronlm-0.3b-base", 8192, 512),
        (None, "base", 8192, 512),
        (None, "database", 8192, 256),
        (None, "base-tuned", 8192, 256),
        (None, "checkpoint", 128, 128),
        (8192, "checkpoint", 8192, 8192),
        (1, "checkpoint", 8192, 1),
    ],
)
def test_context_length(asked: int | None, name: str, most: int, length: int) -> None:
    assert resolve_context(asked, name, most) == length


def test_context_length_beyond_the_rotations(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="context length 513: choose from 1 to max_position_embeddings, which is 512"):
        command.export(TINY / "checkpoint", tmp_path / "out", context_length=513)
    assert list(tmp_path.iterdir()) == []


def test_variants() -> None:
    assert VARIANTS == ("fp32", "int8", "int8-batch", "fp16", "plain")
    assert DEFAULTS == ("fp32",)
    assert (runnable(), runnable(but="fp16")) == ("fp32, int8, int8-batch or fp16", "fp32, int8 or int8-batch")
    assert check_variants(["fp32", "fp32"]) == ("fp32",)
    assert check_variants("int8") == ("int8",)
    assert check_variants(iter(["int8", "fp32"])) == ("fp32", "int8")  # in the table's order
    assert check_variants("int8-batch") == ("int8", "int8-batch")  # whose weights it reads
    assert check_variants(["plain", "fp16", "fp32"]) == ("fp32", "fp16", "plain")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_row_names_a_writer(recipe: Recipe) -> None:
    from diffutron_ort_export.pipeline import writer

    assert writer(recipe).__annotations__.keys() == {"job", "return"}


BAD = [
    ({"variants": ()}, "no variant: there are fp32"),
    ({"variants": ("int2",)}, "variant 'int2': there are fp32"),
    ({"variants": "int2"}, "variant 'int2': there are fp32"),
    ({"variants": None}, "variants=None: must be names"),
    ({"variants": 8}, "variants=8: must be names"),
    ({"variants": b"fp32"}, "variants=b'fp32': must be names"),
    ({"variants": ["fp32", 8]}, "variants=.*8.: must be names"),
    (
        {"variants": ("fp32", "fp16"), "exclude": ["head.dense"]},
        r"exclude \['head\.dense'\]: only int8 leaves matrices",
    ),
    ({"variants": "int8", "exclude": 3}, "exclude=3: must be names"),
    ({"context_length": 0}, "context length 0: choose from 1"),
    ({"context_length": -1}, "context length -1: choose from 1"),
    ({"context_length": 2.5}, r"context length 2\.5: choose from 1"),
    ({"context_length": "99"}, "context length '99': choose from 1"),
    ({"context_length": True}, "context length True: choose from 1"),
    ({"revision": "abc"}, "revision 'abc' of .*checkpoint: a directory has no revisions"),
    ({"revision": ""}, "revision ''"),
    ({"source": "a/b", "revision": "../x"}, "revision '../x': must be a branch, a tag or a commit of a/b"),
    ({"source": "a/b", "revision": 3}, "revision 3: must be a branch"),
    ({"output_vocabulary": "nowhere.txt"}, "output vocabulary 'nowhere.txt' does not exist"),
    ({"output_vocabulary": "/"}, "output vocabulary '/' is a folder"),
    ({"output_vocabulary": 3}, "output vocabulary 3: give a path"),
    ({"out": ""}, "out '': give a path"),
    ({"out": None}, "out None: give a path"),
    ({"out": "a\0b"}, "out 'a.*b': give a path"),
    ({"source": ""}, "source '': give a path"),
    ({"source": 3}, "source 3: give a path"),
]
NO_CHECKPOINT = [
    ({"source": "./nowhere"}, "neither a directory nor a hub id such as 'owner/name'"),
    ({"source": "a/b/c"}, "neither a directory nor a hub id"),
    ({"source": str(TINY / "checkpoint" / "config.json")}, "is not a directory; give the directory that holds it"),
    ({"source": "ü/x"}, "neither a directory nor a hub id"),
    ({"source": str(TINY)}, "has no config.json; give a folder in the Hugging Face layout"),
    ({"source": "\ud800"}, "neither a directory nor a hub id"),
    ({"adapter": "nowhere"}, "adapter 'nowhere' is not a directory; give the folder that holds adapter_config.json"),
    ({"adapter": str(TINY / "checkpoint" / "config.json")}, "is not a directory"),
]


@pytest.mark.parametrize(
    ("given", "message", "error"),
    [*((*case, OptionError) for case in BAD), *((*case, CheckpointError) for case in NO_CHECKPOINT)],
)
def test_what_is_refused_before_the_checkpoint_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict, message: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(command, "write", lambda *_: pytest.fail("the work began"))
    with pytest.raises(error, match=message):
        command.export(**{"source": TINY / "checkpoint", "out": tmp_path / "out"} | given)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_no_checkpoint(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a bundle already; give the checkpoint that it was made from"):
        command.export(tiny_bundle, tmp_path / "out")


def test_wrong_usage_loads_nothing_that_is_slow(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    source = str(TINY / "checkpoint")
    wrong = [
        [source, "out", "--variant", "int2"],
        [source, "out", "--exclude", "x"],
        [source, "file"],
        [source, "file/out"],
        [source, "n" * 300],
        ["./nowhere", "out"],
        ["nowhere", "out"],
        [source, "out", "--revision", "abc"],
        [source, "out", "--adapter", "nowhere"],
        [source, "out", "--context-length", "0"],
        [source, "out", "--output-vocabulary", "nowhere"],
        ["a/b", "out", "--revision", "../x"],
        [source],
    ]
    program = (
        "import json, sys; from diffutron_ort.cli.main import main\n"
        "codes = [main(['export', *arguments]) for arguments in json.loads(sys.argv[1])]\n"
        "slow = {'torch', 'transformers', 'onnx', 'onnxruntime', 'safetensors', 'huggingface_hub', 'rich'}\n"
        "sys.stderr.write(f'{codes} {slow & sys.modules.keys()}')"
    )
    command = [sys.executable, "-c", program, json.dumps(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    *messages, last = done.stderr.splitlines()
    assert last == f"{[2, 2, 2, 2, 2, 1, 1, 2, 1, 2, 2, 2, 2]} set()"
    assert len(messages) == len(wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_loads_no_torch() -> None:
    program = (
        "import argparse, sys; from diffutron_ort_export.command import add_arguments, run;"
        "import diffutron_ort_export; add_arguments(argparse.ArgumentParser());"
        "print(sorted({'torch', 'transformers', 'onnx', 'onnxruntime', 'safetensors'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_stages_are_plain_lines_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(request, report):
        report("reading", 0.5)
        report("writing", 0.5)

    monkeypatch.setattr(command, "write", write)
    command.run(parse(str(TINY / "checkpoint"), str(tmp_path)))
    assert capsys.readouterr() == ("", "reading\nwriting\n")


def test_a_terminal_gets_a_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    now = [1000.0]
    monkeypatch.setattr("diffutron_ort.cli.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with command.progress() as report:
        report("reading", 0.0)
        now[0] += 30
        report("writing", 0.5)
    printed, shown = capsys.readouterr()
    assert printed == ""
    assert "writing" in shown
    assert "30 s left" in shown


class Broken(io.StringIO):
    """A stream that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("stream", [None, Broken()])
def test_nobody_reads_how_far_it_is(monkeypatch: pytest.MonkeyPatch, stream: Broken | None) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with command.progress() as report:
        report("reading", 1.0)


@pytest.mark.parametrize("terminal", [False, True])
def test_names_of_others_do_not_steer_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys, terminal: bool) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with command.progress() as report:
        report("reading a\x1b]0;title\x07\n\u202eb [/x] ğ", 1.0)
    shown = capsys.readouterr().err
    assert "reading a\\x1b]0;title\\x07\\n\\u202eb [/x] ğ" in shown
    assert not {"\x07", "\u202e"} & set(shown)


def is_as_its_manifest_says(bundle: Path) -> bool:
    listed = load_bundle(bundle).files
    found = {name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in listed}
    return found == {
        name: said["sha256"] for name, said in json.loads((bundle / MANIFEST).read_text())["files"].items()
    }


def test_the_python_function_prints_nothing(tmp_path: Path) -> None:
    program = "import sys; from diffutron_ort_export import export; export(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", program, TINY / "checkpoint", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert is_as_its_manifest_says(tmp_path / "out")


@pytest.mark.parametrize("streams", ["0<&- 1>&- 2>&-", "2>/dev/full"])
def test_closed_and_full_streams_do_not_end_an_export(tmp_path: Path, streams: str) -> None:
    line = f'"$0" -m diffutron_ort export "$1" "$2" {streams}'
    done = subprocess.run(["bash", "-c", line, sys.executable, TINY / "checkpoint", tmp_path / "out"])
    assert is_as_its_manifest_says(tmp_path / "out")
    assert done.returncode == 0
