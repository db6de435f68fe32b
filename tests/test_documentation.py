"""What documents say is so: their commands run and print what stands there, their paths and links lead somewhere."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import onnxruntime
import pytest

from tests import markdown
from tests.markdown import Block

ROOT = Path(__file__).parents[1]
SECURITY = ROOT / "SECURITY.md"

if not SECURITY.exists():
    pytest.skip("an installed package's tests have no documents beside them", allow_module_level=True)

DOCUMENTS = sorted(path for folder in (".", "docs", "examples", "models") for path in ROOT.glob(f"{folder}/*.md"))
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
OTHERS = [
    "js/README.md",
    "examples/node/README.md",
    "examples/ray/README.md",
    "examples/llm-diffutron/README.md",
    "examples/mcp/README.md",
    "models/nano/README.md",
    "benchmarks/RESULTS.md",
]
REAL, STAND_IN = "diffutron/DiffutronLM-0.3B-Instruct", "tests/golden/tiny/checkpoint"

NOT_RUN = {
    "pytest": "the tests themselves; the stage `tests`",
    "npm ci": "needs npm's registry; the stages `node`, `browser` and `plain` do it",
    "diffutron-ort serve": "serves until it is ended; tests/serve",
    "diffutron-ort demo": "serves until it is ended; tests/demo",
    'diffutron-ort generate "Türkiye\'nin en kalabalık şehri hangisidir?" --model SOURCE': "exports, which takes "
    "long; tests/export/test_one_command.py",
    "diffutron-ort export SOURCE models/instruct --variant fp32 int8": "too long; tests/export/test_int8.py",
    "diffutron-ort export models/nano/checkpoint nano --variant fp32 plain": "needs [optimum]; the stage `plain`",
    "diffutron-ort verify --against": "too long; the stage `verify`",
    "node examples": "needs what npm brings; the stages `node` and `plain`",
    "diffutron-ort eval": "needs the extra [eval]; the stage `eval`",
    "import datasets": "needs the Hub",
    "from lm_eval import": "needs the extra [eval]; tests/integrations/test_lm_eval.py",
    "import ray": "needs the extra [ray]; the stage `ray` has the example",
    "from diffutron_ort.integrations.ray_serve": "needs ray[serve]; tests/integrations/test_ray_serve.py",
    "split --number": "needs a file of questions",
    "curl -s": "needs a server; tests/clients/test_curl.py",
    "llm -m": "needs a server; tests/clients/test_programs.py",
    "from openai import": "needs a server; tests/clients/test_programs.py",
    "import litellm": "needs a server; tests/clients/test_programs.py",
    "from langchain_openai import": "needs a server; tests/clients/test_programs.py",
    "g++": "needs the headers of ONNX Runtime",
    "python3 -m venv": "makes an environment",
    ". .venv/bin/activate": "enters that environment",
    "ruff": "the stage `lint`",
    "mypy": "the stage `lint`",
    "mkdocs": "the stage `docs`",
    "from optimum": "needs the extra [optimum]; the stage `plain`",
}
"""What is not run here, by how it begins, and why not or where it is."""


def blocks(language: str, path: Path) -> list[Block]:
    return [block for block in markdown.blocks(markdown.read(path)) if block.language == language]


def not_run(command: str) -> str | None:
    return next((start for start in NOT_RUN if command.replace(REAL, "SOURCE").startswith(start)), None)


def extras() -> dict[str, list[str]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


def check_pip(command: str) -> None:
    """Look at a `pip install`: this checkout, with extras that there are."""
    where = [word for word in shlex.split(command)[2:] if not word.startswith(("-", "http"))]
    assert len(where) == 1, command
    match = re.fullmatch(r"\.\[([\w,-]+)\]", where[0])
    assert match, command
    assert set(match[1].split(",")) <= extras().keys(), command


def test_every_extra_is_explained() -> None:
    section = markdown.read(ROOT / "docs" / "python.md").partition("## Installing\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == list(extras())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which commands may write: the folders that they write to are its own, the rest is linked."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "models").mkdir()
    for name in ("tests", "examples", "benchmarks", "models/nano", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(code: list[str], folder: Path) -> str:
    """Run a program as a reader would, and return what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}
    done = subprocess.run(code, cwd=folder, env=environment, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, f"{code}: {done.stderr.decode()}"
    return done.stdout.decode()


def run_shell(block: Block, folder: Path) -> str | None:
    """Run a block's commands one after the other; return what they print, or None where not all of them are run."""
    printed, commands = "", [part for line in block.commands for part in line.split(" && ")]
    for command in commands:
        if command.startswith("pip install "):
            check_pip(command)
        elif not_run(command) is None:
            printed += run(["bash", "-c", command.replace(REAL, STAND_IN)], folder)
        elif "--variant fp32 int8" in command:  # the next command reads what this would have written
            (folder / "models" / "instruct").symlink_to("nano")
    return None if any(map(not_run, commands)) else printed


@pytest.mark.exporter
@pytest.mark.parametrize("name", [name for name in NAMES if blocks("sh", ROOT / name)])
def test_commands_run_and_print_what_stands_there(name: str, checkout: Path) -> None:
    for block in blocks("sh", ROOT / name):
        printed = run_shell(block, checkout)
        assert None in (printed, block.output) or printed == block.output, f"{name}:{block.line}"


@pytest.mark.parametrize("name", [name for name in NAMES if blocks("python", ROOT / name)])
def test_programs_run_and_print_what_stands_there(name: str, checkout: Path) -> None:
    for block in blocks("python", ROOT / name):
        if not_run(block.code) is None:
            printed = run([sys.executable, "-c", block.code], checkout)
            assert printed == (block.output or ""), f"{name}:{block.line}"


def test_what_is_not_run_stands_in_a_document() -> None:
    shell = [block for path in DOCUMENTS for block in blocks("sh", path)]
    commands = [part for block in shell for line in block.commands for part in line.split(" && ")]
    programs = [block.code for path in DOCUMENTS for block in blocks("python", path)]
    assert {not_run(command) for command in commands + programs} - {None} == NOT_RUN.keys()


@pytest.mark.parametrize("name", [*NAMES, *OTHERS])
def test_links_lead_somewhere(name: str) -> None:
    text, folder = markdown.read(ROOT / name), (ROOT / name).parent
    missing = [target for target in markdown.links(text) if not (folder / target).exists()]
    assert not missing, f"{name} links to {missing}"
    for target, anchor in re.findall(r"\]\(([^()\s:#]*)#([^()\s]+)\)", text):
        there = markdown.anchors(markdown.read(folder / target) if target else text)
        assert anchor in there, f"{name} links to {target}#{anchor}"


@pytest.mark.parametrize("name", [*NAMES, *OTHERS])
def test_paths_that_are_named_are_there(name: str) -> None:
    top = {path.name for path in ROOT.iterdir()}
    named = {path for path in markdown.paths(markdown.read(ROOT / name)) if path.split("/")[0] in top}
    missing = [path for path in named - {"models/instruct"} if not (ROOT / path).exists()]
    assert not missing, f"{name} names {missing}"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/")])
def test_generated_tables_are_those_of_the_code(name: str) -> None:
    from docs.generate import renewed  # which a checkout alone has

    text = markdown.read(ROOT / name)
    assert renewed(text) == text, f"{name} is stale: python -m docs.generate"


@pytest.mark.parametrize(("title", "graph"), [("The denoiser", "denoiser"), ("The whole of generation", "generate")])
def test_the_contract_names_what_the_graph_has(title: str, graph: str) -> None:
    section = re.split(r"^## ", markdown.read(ROOT / "docs" / "graph-contract.md"), flags=re.MULTILINE)
    [text] = [part for part in section if part.startswith(title)]
    found = onnxruntime.InferenceSession(ROOT / "models" / "nano" / "onnx" / f"{graph}.onnx")
    for kind, values in (("input", found.get_inputs()), ("output", found.get_outputs())):
        table = text.partition(f"| {kind} |")[2].partition("\n\n")[0]
        first = " ".join(row.split("|")[1] for row in table.splitlines()[1:] if row.startswith("|"))
        names = [re.sub(r"\.\d+$", ".i", value.name) for value in values]  # of each layer
        assert re.findall(r"`([\w.]+)`", first) == list(dict.fromkeys(names))


def test_blocks_are_read_with_their_output() -> None:
    shell = "a\n\n    x && y\n    z\n\n```text\n1\n```\n\n- list\n    no code\n"
    text = shell + "\n```python\np\n```\n\nb\n\n```text\n2\n```\n"
    assert markdown.blocks(text) == [Block(3, "sh", "x && y\nz\n", "1\n"), Block(14, "python", "p\n")]


def test_every_promise_of_security_names_a_test_that_is_there() -> None:
    text = SECURITY.read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and line != "| promise | test |"]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for file, function in named:
            tree = ast.parse((ROOT / file).read_text("utf-8"))
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert not function or function in functions, f"{file} has no {function}"
