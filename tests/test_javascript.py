"""The JavaScript package says what the Python package says."""

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from diffutron_ort import __version__

ROOT = Path(__file__).parents[1]
JS = ROOT / "js"

if not (JS / "package.json").exists():
    pytest.skip("the JavaScript package is in a checkout alone", allow_module_level=True)


def test_its_version_is_pythons():
    for name in ("package.json", "package-lock.json"):
        assert json.loads((JS / name).read_text("utf-8"))["version"] == __version__, f"set it in js/{name}"


def test_its_licence_is_the_projects():
    assert (JS / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_page_has_the_releases_that_the_package_is_tested_with():
    tested = json.loads((JS / "package.json").read_text("utf-8"))
    page = json.loads((ROOT / "web" / "package.json").read_text("utf-8"))["dependencies"]
    node = json.loads((ROOT / "examples" / "node" / "package.json").read_text("utf-8"))["dependencies"]
    runtime, tokenizer = "onnxruntime-node", "@huggingface/tokenizers"
    assert tested["devDependencies"][tokenizer] == page[tokenizer] == node[tokenizer]
    assert tested["devDependencies"][runtime] == page["onnxruntime-web"] == node[runtime]
    for name in (runtime, "onnxruntime-web"):
        assert tested["peerDependencies"][name] == f"^{tested['devDependencies'][runtime]}"


def test_the_wheel_carries_the_page_and_the_sources_without_tests_and_libraries():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    sources = {path for path in (JS / "src").rglob("*") if path.is_file()}
    page = {path for path in (ROOT / "web").iterdir() if path.is_file() and path.name != ".gitignore"}
    for package, wanted in (("diffutron_ort.js", sources), ("diffutron_ort.web", page)):
        folder, patterns = ROOT / tool["package-dir"][package], tool["package-data"][package]
        assert {path for pattern in patterns for path in folder.glob(pattern)} == wanted


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The program js/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", JS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_current(generate):
    for path, text in generate.files().items():
        assert path.read_text("utf-8") == text, f"{path.relative_to(ROOT)} is stale: run `python js/generate.py`"


def test_every_generated_file_is_among_them(generate):
    there = {*(JS / "src" / "generated").iterdir(), JS / "types" / "options.d.ts"}
    assert there == generate.files().keys()


def test_values_are_written_as_javascript_has_them(generate):
    assert generate.literal({"type": "bigint", "most": 2**64 - 1}) == '{ type: "bigint", most: 18446744073709551615n }'
    assert generate.literal({"a": 1.0, "b": 0.5, "c": (), "d": ("x",), "e": True}) == (
        '{ a: 1, b: 0.5, c: [], d: ["x"], e: true }'
    )
