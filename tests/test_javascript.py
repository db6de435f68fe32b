"""The JavaScript package says what the Python package says."""

import json
from pathlib import Path

import pytest

from diffutron_ort import __version__

ROOT = Path(__file__).parents[1]
JS = ROOT / "js"

if not JS.exists():
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
