"""The picture of a generation."""

from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import pytest

from diffutron_ort.cli.main import main
from diffutron_ort.cli.svg import LETTERS, svg, xml
from tests.command import QUESTION, run

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture, kind=None):
    """Return the lines of a picture that are of this class."""
    return [text.text for text in ElementTree.fromstring(picture).iter(f"{SVG}text") if text.get("class") == kind]


def test_the_picture_shows_every_token(tmp_path, capsys):
    assert main(["generate", QUESTION, "--svg", str(tmp_path / "canvas.svg")]) == 0
    picture = (tmp_path / "canvas.svg").read_text("utf-8")
    assert picture.startswith("<svg ")
    assert texts(picture, "prompt") == [QUESTION]
    assert texts(picture, "answer") == ["on yedi"]
    assert all(text in picture for text in ("> yedi<", "@keyframes s0 ", "prefers-color-scheme: dark"))
    assert "<script" not in picture
    assert list(tmp_path.iterdir()) == [tmp_path / "canvas.svg"]


def test_every_character_makes_xml():
    for first in range(0, 0x10000, 256):
        text = "".join(map(chr, range(first, first + 256)))
        assert len(ElementTree.fromstring(f"<a>{xml(text)}</a>").text) == 256
    for code in chain(range(0x10000, 0x110000, 0x1111), (0x1FFFE, 0x1FFFF, 0x10FFFF, 0xE0001)):
        assert ElementTree.fromstring(f"<a>{xml(chr(code))}</a>").text == chr(code)
    assert xml("a\x1b[0m\x0c\0\ufffe\ud800\u202e<&>") == "a�[0m�����&lt;&amp;&gt;"
    assert xml("kaç\tİ ğ\n𝔸") == "kaç\tİ ğ\n𝔸"


@pytest.fixture(scope="module")
def steps(model):
    return list(model.stream(QUESTION))


@pytest.mark.parametrize(
    "prompt", ["a\x0cb", "\0", "\ufffe\uffff", "\ud800x", "]]><script>", "a\n\nb\tc", "x\x85\u2028y"]
)
def test_a_prompt_of_any_characters_makes_a_picture(prompt, steps, model):
    ElementTree.fromstring(svg(steps, model, prompt))


@pytest.mark.parametrize("prompt", ["kelime " * 60, "k" * 400, "漢字" * 100])  # each fills more than four lines
def test_a_long_prompt_is_wrapped_and_shortened(prompt, steps, model):
    lines = texts(svg(steps, model, prompt), "prompt")
    assert len(lines) == 4
    assert all(len(line) <= LETTERS // (2 if "漢" in line else 1) for line in lines)
    assert lines[-1].endswith("…")


def test_a_long_answer_is_wrapped_whole(model):
    answered = list(model.stream(QUESTION, template=False, early_end=False, steps=4, max_new_tokens=128))
    lines = texts(svg(answered, model, "x"), "answer")
    assert "".join("".join(lines).split()) == "".join(answered[-1].text.split())
    assert all(len(line) <= LETTERS for line in lines)


def test_masks_that_are_not_needed_are_left_out(steps, model):
    assert steps[-1].masks_left > 0
    root = ElementTree.fromstring(svg(steps, model, QUESTION))
    cells = [group for group in root.iter(f"{SVG}g") if group.get("class") == "mask"]
    assert len(cells) == len(steps[-1].ids) - steps[-1].start - steps[-1].masks_left


@pytest.mark.parametrize("name", ["no/canvas.svg", "", "."])
def test_a_place_that_cannot_be_written_is_found_out_first(name, tmp_path, capsys):
    path = str(tmp_path / name) if name else str(tmp_path)
    assert main(["generate", QUESTION, "--svg", path]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"diffutron-ort: {path.removesuffix('/.')}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--model", "nowhere"], ["--max-new-tokens", "300"], ["--steps", "0"]])
def test_a_picture_outlives_a_generation_that_fails(arguments, tmp_path, capsys):
    there = tmp_path / "canvas.svg"
    there.write_text("old")
    assert main(["generate", QUESTION, "--svg", str(there), *arguments]) != 0
    assert there.read_text() == "old"
    assert list(tmp_path.iterdir()) == [there]


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="has no name for standard output")
def test_a_picture_may_go_to_a_device(tmp_path):
    with (tmp_path / "both").open("wb") as both:
        assert run("generate", QUESTION, "--svg", "/dev/stdout", stdout=both).returncode == 0
    assert (tmp_path / "both").read_text("utf-8").startswith("on yedi\n<svg ")
    assert run("generate", QUESTION, "--svg", "/dev/stdout").stdout.decode().startswith("on yedi\n<svg ")
    assert run("generate", QUESTION, "--svg", "/dev/null").returncode == 0
