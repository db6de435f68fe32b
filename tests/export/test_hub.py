"""A server of this test's own plays the hub: which files are asked for, and which commit is recorded."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.export.conftest import TINY

COMMIT = "2fe4bf13ea5d24223800d92e637140d85c8d232e"
REPOSITORY = "diffutron/Tiny-Base"
GATED = "diffutron/Gated"
SENTENCE = "Access to model diffutron/Gated is restricted and you are not in the authorized list."
EXTRA = {"training_args.bin": b"a pickle", "pytorch_model.bin": b"a pickle", "README.md": b"a card"}
FILES = {path.name: path.read_bytes() for path in (TINY / "checkpoint").iterdir()} | EXTRA


class Hub(BaseHTTPRequestHandler):
    """The endpoints that huggingface_hub's snapshot_download asks for."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        api, download = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/{COMMIT}/"
        if path in {api, f"{api}/revision/main", f"{api}/revision/v1", f"{api}/revision/{COMMIT}"}:
            names = [{"rfilename": name} for name in FILES]
            self.reply(json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": names}).encode(), body)
        elif path == f"{api}/tree/{COMMIT}":
            tree = [{"type": "file", "path": n, "size": len(c), "oid": digest(c)} for n, c in FILES.items()]
            self.reply(json.dumps(tree).encode(), body)
        elif path.startswith(download) and path.removeprefix(download) in FILES:
            self.reply(FILES[path.removeprefix(download)], body)
        elif GATED in path:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Error-Message", f"{SENTENCE}\x1b[31m")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def reply(self, content: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{digest(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def client(endpoint: str) -> dict[str, str]:
    """Return the variables of a process whose hub is at `endpoint`, and which has patience with a busy machine."""
    patience = dict.fromkeys(("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"), "120")
    return {"HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"} | patience


def open_in_process(endpoint: str, home: Path, *sources: tuple[str, str | None]) -> list[str]:
    """What `open_source` makes of sources and revisions, in a process of its own: the endpoint is read at import."""
    program = (
        "from diffutron_ort.errors import CheckpointError\n"
        "from diffutron_ort_export.checkpoint.source import open_source\n"
        f"for source, revision in {sources!r}:\n"
        "    try: found = open_source(source, revision=revision)\n"
        "    except CheckpointError as error: print('refused:', error)\n"
        "    else: print(found.name, found.revision, len(found.weights.shapes))"
    )
    settings = client(endpoint) | {"HF_HOME": str(home)}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | settings
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=300)
    return done.stdout.splitlines()


def test_any_revision_is_recorded_as_its_commit(hub: str, tmp_path: Path) -> None:
    revisions = [None, "v1", COMMIT]
    found = open_in_process(hub, tmp_path, *((REPOSITORY, revision) for revision in revisions))
    assert found == [f"{REPOSITORY} {COMMIT} 47"] * 3
    downloaded = {path.rpartition("/")[2] for path in Hub.asked if "/resolve/" in path}
    assert downloaded == {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}


def test_what_the_hub_has_not(hub: str, tmp_path: Path) -> None:
    repository, revision = open_in_process(hub, tmp_path, ("diffutron/Nothing", None), (REPOSITORY, "v2"))
    assert repository.startswith("refused: source 'diffutron/Nothing' at revision 'main' is not a directory here")
    assert revision.startswith(f"refused: source '{REPOSITORY}' at revision 'v2' is not a directory here")
    assert all(line.endswith("check the name, the revision and the network") for line in (repository, revision))


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    (found,) = open_in_process("http://127.0.0.1:9", tmp_path, (REPOSITORY, None))
    assert found.startswith(f"refused: source '{REPOSITORY}' at revision 'main' is not a directory here")


def test_a_gated_repository_shows_the_hub_s_own_sentence(hub: str, tmp_path: Path) -> None:
    (found,) = open_in_process(hub, tmp_path, (GATED, None))
    assert SENTENCE in found
    assert "is not a directory here" in found
    assert found.isprintable()
