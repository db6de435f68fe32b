"""The command's arguments, what it says, and what it does not load."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from diffutron_ort.errors import OptionError
from diffutron_ort_export import command
from diffutron_ort_export.recipes import RECIPES, chosen
from tests.exporter.conftest import TINY


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_arguments() -> None:
    given = parse(
        *("a/b", "out", "--variant", "fp32", "int8", "--adapter", "lora", "--revision", "abc"),
        *("--context-length", "99", "--exclude", "head.*", "model.layers.0.mlp.Wo", "--accept"),
        *("--output-vocabulary", "words.txt"),
    )
    assert vars(given) == {
        "source": "a/b",
        "out": "out",
        "variant": ["fp32", "int8"],
        "exclude": ["head.*", "model.layers.0.mlp.Wo"],
        "accept": True,
        "output_vocabulary": "words.txt",
        "adapter": "lora",
        "revision": "abc",
        "context_length": 99,
    }
    assert parse("a", "b").variant == ["fp32"]
    bare = parse("a", "b")
    assert (bare.exclude, bare.accept, bare.output_vocabulary) == (None, False, None)
    assert parse("a", "b", "--exclude").exclude == []


@pytest.mark.parametrize(
    ("asked", "name", "most", "length"),
    [
        (None, "diffutron/DiffutronLM-0.3B-Instruct", 8192, 256),
        (None, "diffutron/DiffutronLM-0.3B-Base", 8192, 512),
        (None, "checkpoint", 128, 128),
        (8192, "checkpoint", 8192, 8192),
        (1, "checkpoint", 8192, 1),
    ],
)
def test_context_length(asked: int | None, name: str, most: int, length: int) -> None:
    assert command.context(asked, name, most) == length


@pytest.mark.parametrize("asked", [0, -1, 513])
def test_context_length_beyond_the_rotations(tmp_path: Path, asked: int) -> None:
    with pytest.raises(
        OptionError, match=f"context length {asked}: choose from 1 to max_position_embeddings, which is 512"
    ):
        command.export(TINY / "checkpoint", tmp_path / "out", context_length=asked)
    assert list(tmp_path.iterdir()) == []


def test_variants() -> None:
    assert chosen(["fp32", "fp32"]) == [RECIPES["fp32"]]
    with pytest.raises(OptionError, match="variant 'int2': there are fp32"):
        chosen(["int2"])
    with pytest.raises(OptionError, match="no variant: there are fp32"):
        chosen([])


def test_excluding_from_what_is_not_quantized(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"exclude \['head\.dense'\]: only int8 leaves matrices out"):
        command.export(TINY / "checkpoint", tmp_path / "out", variants=("fp32", "fp16"), exclude=["head.dense"])
    assert list(tmp_path.iterdir()) == []


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
    def write(name, out, *, report, **_options):
        report("reading", 0.5)
        report("writing", 0.5)

    monkeypatch.setattr(command, "write", write)
    command.run(parse("source", str(tmp_path)))
    assert capsys.readouterr() == ("", "reading\nwriting\n")


def test_a_terminal_gets_a_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with command.progress() as report:
        report("reading", 0.5)
        report("writing", 0.5)
    printed, shown = capsys.readouterr()
    assert printed == ""
    assert "writing" in shown
    assert "left" in shown


def test_the_python_function_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError):
        command.export(TINY / "checkpoint", tmp_path / "out", variants=("int2",))
    assert capsys.readouterr() == ("", "")
