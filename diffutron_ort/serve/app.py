"""The routes of the server."""

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from diffutron_ort.serve import page
from diffutron_ort.serve.api.completions import Completions
from diffutron_ort.serve.api.decisions import SystemOne
from diffutron_ort.serve.api.generating import Generating
from diffutron_ort.serve.api.judging import Judging
from diffutron_ort.serve.api.openapi import document
from diffutron_ort.serve.api.responses import Model, ModelList, State
from diffutron_ort.serve.api.scores import Scores
from diffutron_ort.serve.api.structured import Chats
from diffutron_ort.serve.batching.identity import Identity
from diffutron_ort.serve.batching.metrics import CONTENT_TYPE
from diffutron_ort.serve.batching.service import Service
from diffutron_ort.serve.errors import ApiError, failure
from diffutron_ort.serve.settings import Settings


def make_app(service: Service, settings: Settings) -> Starlette:
    """Return the application: its routes alone, without what guards it."""
    views = Views(service, settings)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", Chats(service, settings), methods=["POST"]),
            Route("/v1/completions", Generating(Completions(), service, settings), methods=["POST"]),
            Route("/v1/score", Judging(Scores(), service, settings), methods=["POST"]),
            Route("/v1/systemone", Judging(SystemOne(), service, settings), methods=["POST"]),
            Route("/v1/models", views.models),
            Route("/v1/models/{name:path}", views.model),
            Route("/health", views.health),
            Route("/ready", views.ready),
            Route("/metrics", views.metrics),
            Route("/openapi.json", views.openapi),
            *page.routes(),
        ],
        exception_handlers={ApiError: _told, HTTPException: _misrouted, Exception: _failed},
    )


class Views:
    """What can be asked of a server besides answers."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service, self._described = service, msgspec.json.encode(document(settings))

    async def models(self, _: Request) -> Response:
        """Return the models: one."""
        return _json(ModelList([_model(self._service.identity)]))

    async def model(self, request: Request) -> Response:
        """Return the model of a name."""
        self._service.identity.check(request.path_params["name"])
        return _json(_model(self._service.identity))

    async def health(self, _: Request) -> Response:
        """Say that the process lives."""
        return _json(State(self._service.state))

    async def ready(self, _: Request) -> Response:
        """Say whether requests are taken."""
        return _json(State(self._service.state), 200 if self._service.state == "ready" else 503)

    async def metrics(self, _: Request) -> Response:
        """Return the figures for Prometheus."""
        return Response(self._service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _: Request) -> Response:
        """Return the description of the server."""
        return Response(self._described, media_type="application/json")


def _model(identity: Identity) -> Model:
    return Model(identity.name, identity.created, identity.facts())


def _json(content: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def _misrouted(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "there is nothing at this path", 405: "this path does not take this method: see the header allow"}
    message = said.get(error.status_code, error.detail)
    return ApiError(error.status_code, message, headers=error.headers).response()


async def _failed(*_: object) -> Response:
    return failure().response()  # whoever called this app gets the exception as well, and logs it


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()
