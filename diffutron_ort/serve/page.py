"""The page of the server: it asks the server that it came from, and loads nothing from anywhere else."""

import hashlib
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from diffutron_ort.errors import DiffutronError
from diffutron_ort.pages import Served, find_pages, has, headers, of_folder

PAGE = "index.html"
FILES = (
    "app.js",
    "canvas.js",
    "events.js",
    "frames.js",
    "icon.svg",
    "kept.js",
    "model.js",
    "player.js",
    "server.js",
    "strings.js",
    "style.css",
    "talk.js",
)
"""What the page loads where a server answers; the sampler in JavaScript and its libraries are none of it."""

PATHS = frozenset({"/", *(f"/{name}" for name in FILES)})
"""The addresses of the page, which hold nothing secret."""

MODEL = b'data-model="browser"', b'data-model="server"'  # who answers: as in the file, and as it is sent
HEADERS = headers()
Answer = Callable[[Request], Awaitable[Response]]


def routes() -> list[BaseRoute]:
    """Return the routes of the page, `/`, and of the files that it loads.

    The files are read once. Where the page was not installed, `/` says so; the API needs none of it.
    """
    try:
        files = of_folder(find_pages().web)
        answers = {path: _sending(files[path[1:]]) for path in PATHS - {"/"}}
        answers["/"] = _sending(files[PAGE], for_server=True)
    except (DiffutronError, KeyError, OSError):
        answers = {"/": _missing}
    return [Route(path, answer) for path, answer in answers.items()]


def _sending(served: Served, *, for_server: bool = False) -> Answer:
    """Return what answers with a file, of which a browser may have a copy.

    Raises:
        OSError: It cannot be read.
    """
    with served.open() as file:
        content = file.read().replace(*MODEL) if for_server else file.read()
    tag = f'"{hashlib.sha256(content).hexdigest()}"'

    async def answer(request: Request) -> Response:
        if has(tag, request.headers.getlist("if-none-match")):
            return Response(status_code=304, headers=HEADERS | {"ETag": tag})
        return Response(content, headers=HEADERS | {"ETag": tag, "Content-Type": served.content_type})

    return answer


async def _missing(_: Request) -> Response:
    text = "This installation has no page; the API works without it. Reinstall diffutron-ort to have the page.\n"
    return Response(text, 404, HEADERS, "text/plain")
