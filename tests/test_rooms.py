"""Each room imports only rooms below it, and libraries are imported only where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# The order of the rooms, lowest first: a room may import itself and those on lines before its own. The rooms on one
# line are peers, which import none of each other. A name with ".py" is a file of the package's top level.
ROOMS = {
    "diffutron_ort": """
        _version.py errors.py types.py
        brief.py
        config.py extras.py files.py memory.py pages.py signals.py user_cache.py
        text
        bundle
        runtime
        sampler
        scoring
        choosing slots
        completion.py loading.py prompts.py
        completing.py passages.py templates.py
        model.py
        __init__.py
        checks
        bulk chat demo doctor
        perplexity
        serve
        integrations
        cli
        __main__.py
    """,
    "diffutron_ort.serve": """
        errors.py logs.py settings.py
        page.py
        batching guards
        api
        app.py
        processes
        __init__.py
    """,
    "diffutron_ort_export": """
        passages.py progress.py recipes.py triton.py
        request.py
        staging.py
        checkpoint
        graph
        check
        quantize
        variants.py
        plain.py
        bundle_writer.py kinds.py
        generations.py
        recorder.py
        pipeline.py
        command.py
        __init__.py
    """,
}
FOLDERS = {
    "diffutron_ort": ROOT / "diffutron_ort",
    "diffutron_ort.serve": ROOT / "diffutron_ort" / "serve",
    "diffutron_ort_export": ROOT / "export",
}
if not all(folder.is_dir() for folder in FOLDERS.values()):
    pytest.skip("an installed package's tests have no sources beside them", allow_module_level=True)

# Who may import a library, by room or file of each package; one that is not listed may be imported anywhere.
IMPORTERS = {
    "diffutron_ort": {
        "tokenizers": {"text/tokenizer.py"},
        "onnxruntime": {"runtime/opening.py", "runtime/kv_cache.py"},
        "huggingface_hub": {"bundle/hub.py"},
        "rich": {"chat", "cli"},
        "torch": set(),
        "transformers": set(),
        "onnx": set(),
        "onnx_ir": set(),
        "onnxscript": set(),
        "safetensors": set(),
        "filelock": {"bundle/exporting.py"},
        "starlette": {"serve", "integrations"},
        "uvicorn": {"serve"},
        "msgspec": {"serve"},
        "prometheus_client": {"serve"},
        "prompt_toolkit": {"chat"},
        "ray": {"integrations"},
        "lm_eval": {"integrations"},
        "datasets": {"integrations"},
        "diffutron_ort_export": {"cli", "bundle/exporting.py"},
    },
    "diffutron_ort_export": {
        "torch": {"check/against.py"},
        "transformers": {"check/against.py"},
    },
}


class Import(NamedTuple):
    """An import, wherever it stands: at the top, in a function, or for type checkers alone.

    Attributes:
        package: The importing package.
        file: The importing file, relative to it.
        line: Of the file.
        name: The module, or the name in it, with dots.
    """

    package: str
    file: str
    line: int
    name: str


def imports_of(package: str, file: str, source: str) -> Iterator[Import]:
    """Yield the imports of a file, those by a literal name through importlib included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(package, file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno} imports relative to itself"
            for alias in node.names:
                yield Import(package, file, node.lineno, f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Call) and called(node).endswith("import_module") and node.args:
            [name, *_] = node.args
            if isinstance(name, ast.Constant):
                yield Import(package, file, node.lineno, str(name.value))


def called(node: ast.Call) -> str:
    """Return the name of the function that a call calls, as it is written."""
    return ast.unparse(node.func)


def all_imports() -> list[Import]:
    """Return the imports of both packages."""
    return [
        found
        for package, folder in FOLDERS.items()
        for path in sorted(folder.rglob("*.py"))
        for found in imports_of(package, path.relative_to(folder).as_posix(), path.read_text("utf-8"))
    ]


def levels(package: str) -> dict[str, int]:
    """Return the level of each room of a package."""
    lines = ROOMS[package].split("\n")
    return {room: level for level, line in enumerate(lines) for room in line.split()}


def room_of(file: str) -> str:
    """Return the room of a file: its folder, or the file itself at the top level. A folder's `__main__` is above it."""
    path = PurePosixPath(file)
    return path.name if path.name == "__main__.py" else path.parts[0]


def imported_room(package: str, name: str) -> str:
    """Return the room of a name with dots, such as `diffutron_ort.text.tokenizer.Tokenizer`."""
    first = name.removeprefix(package).removeprefix(".").partition(".")[0]
    if first and (FOLDERS[package] / first).is_dir():
        return first
    return f"{first}.py" if first and (FOLDERS[package] / f"{first}.py").is_file() else "__init__.py"


def climbs(found: Import) -> bool:
    """Return whether an import leads to a room that is not below its own."""
    if not f"{found.name}.".startswith(f"{found.package}."):
        return False
    here, there = room_of(found.file), imported_room(found.package, found.name)
    level = levels(found.package)
    return here != there and level[there] >= level[here]


def is_foreign(found: Import) -> bool:
    """Return whether a file imports a library that it may not."""
    allowed = IMPORTERS.get(found.package, {}).get(found.name.split(".")[0])
    return allowed is not None and not {found.file, room_of(found.file)} & allowed


def said(found: list[Import]) -> list[str]:
    """Return a line for each import."""
    return [f"{found.package}/{found.file}:{found.line} imports {found.name}" for found in found]


def test_every_file_is_in_a_room_of_the_table():
    for package, folder in FOLDERS.items():
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
        assert {room_of(file) for file in files} == set(levels(package)), package


def test_a_room_imports_only_rooms_below_it():
    assert said([found for found in all_imports() if climbs(found)]) == []


def test_libraries_are_imported_only_where_they_belong():
    assert said([found for found in all_imports() if is_foreign(found)]) == []


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("text/stopping.py", "from diffutron_ort.errors import InputError", False),
        ("text/stopping.py", "from diffutron_ort.text.tokenizer import Tokenizer", False),
        ("text/stopping.py", "from diffutron_ort.runtime.session import Session", True),
        ("text/stopping.py", "import diffutron_ort.model", True),
        ("text/stopping.py", "def f():\n    from diffutron_ort.bundle import manifest", True),
        ("text/x.py", "if TYPE_CHECKING:\n    from diffutron_ort.sampler.engine import Engine", True),
        ("text/x.py", "importlib.import_module('diffutron_ort.model')", True),
        ("sampler/x.py", "from diffutron_ort import Diffutron", True),
        ("completion.py", "from diffutron_ort.loading import load", True),
        ("cli/x.py", "from diffutron_ort import __version__, model", False),
    ],
)
def test_imports_that_climb_are_found(file, source, expected):
    assert any(map(climbs, imports_of("diffutron_ort", file, source))) == expected


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("api/chat.py", "from diffutron_ort.serve.batching.jobs import Job", False),
        ("batching/jobs.py", "from diffutron_ort.serve.api.reply import Reply", True),
        ("guards/x.py", "from diffutron_ort.serve import logs", False),
        ("logs.py", "from diffutron_ort.serve import app", True),
        ("logs.py", "from diffutron_ort.files import read_bytes", False),
    ],
)
def test_imports_that_climb_within_the_server_are_found(file, source, expected):
    assert any(map(climbs, imports_of("diffutron_ort.serve", file, source))) == expected


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("text/tokenizer.py", "import tokenizers", False),
        ("text/stopping.py", "from tokenizers import Tokenizer", True),
        ("sampler/x.py", "def f():\n    import onnxruntime as ort", True),
        ("runtime/opening.py", "import onnxruntime as ort", False),
        ("model.py", "import torch.nn", True),
        ("cli/export.py", "import_module('diffutron_ort_export.command')", False),
        ("checks/verify.py", "import_module('diffutron_ort_export.command')", True),
        ("bundle/locate.py", "import_module('diffutron_ort_export.command')", True),
        ("model.py", "import onnx_of_another_name", False),
    ],
)
def test_libraries_in_the_wrong_place_are_found(file, source, expected):
    assert any(map(is_foreign, imports_of("diffutron_ort", file, source))) == expected


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("check/against.py", "import torch\nfrom transformers import AutoModel", False),
        ("check/reference.py", "import torch", True),
        ("checkpoint/weights.py", "def f():\n    from torch import Tensor", True),
        ("variants.py", "import_module('transformers')", True),
    ],
)
def test_torch_in_the_wrong_place_is_found(file, source, expected):
    assert any(map(is_foreign, imports_of("diffutron_ort_export", file, source))) == expected
