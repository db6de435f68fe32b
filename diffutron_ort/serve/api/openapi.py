"""/openapi.json: the server described, from the types of its requests and answers."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from diffutron_ort._version import __version__
from diffutron_ort.serve.api.requests import ChatRequest, CompletionRequest, DecisionRequest, ScoreRequest
from diffutron_ort.serve.api.responses import (
    ChatChunk,
    ChatCompletion,
    CompletionChunk,
    Decisions,
    Error,
    Model,
    ModelList,
    ScoreList,
    State,
    TextCompletion,
)
from diffutron_ort.serve.api.schemas import Schema, components, reference
from diffutron_ort.serve.batching.metrics import CONTENT_TYPE
from diffutron_ort.serve.guards.edge import PUBLIC
from diffutron_ort.serve.settings import Settings

JSON, EVENTS = "application/json", "text/event-stream"
ANY_REQUEST = (400, 403, 421, 431)
"""The statuses of requests that are refused for their head."""

HEADERS: Mapping[int, Mapping[str, str]] = {
    200: {"x-ignored": "The fields of the request that have no meaning here."},
    401: {"www-authenticate": "How to send a key."},
    429: {"retry-after": "Seconds until the same request may succeed."},
    503: {"retry-after": "Seconds until the same request may succeed."},
}
"""What answers have in their headers, by status."""


class Operation(NamedTuple):
    """What can be asked of the server.

    Attributes:
        method: In lower case.
        path: With its parameter in braces.
        name: Unique.
        summary: What it is for.
        answers: The schema of a good answer, by media type.
        errors: The schema of bad ones by status, besides those that any request can get.
        request: The type of its body.
    """

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[str, Schema]
    errors: Mapping[int, type[msgspec.Struct]] = {}
    request: type[msgspec.Struct] | None = None


POST_ERRORS: Mapping[int, type[msgspec.Struct]] = dict.fromkeys((404, 408, 413, 415, 429, 500, 503), Error)


def _events(kind: type[msgspec.Struct]) -> Schema:
    words = (
        f"Server-sent events. The data of each is a {kind.__name__}; or an Error, if something fails late; or [DONE]."
    )
    return {"description": words}


OPERATIONS = (
    Operation(
        "post",
        "/v1/chat/completions",
        "createChatCompletion",
        "Answer messages, as a whole or as a stream",
        {JSON: reference(ChatCompletion), EVENTS: _events(ChatChunk)},
        POST_ERRORS,
        ChatRequest,
    ),
    Operation(
        "post",
        "/v1/completions",
        "createCompletion",
        "Continue raw text, or write what stands before a suffix",
        {JSON: reference(TextCompletion), EVENTS: _events(CompletionChunk)},
        POST_ERRORS,
        CompletionRequest,
    ),
    Operation(
        "post",
        "/v1/score",
        "createScore",
        "Tell how likely texts are, token by token",
        {JSON: reference(ScoreList)},
        POST_ERRORS,
        ScoreRequest,
    ),
    Operation(
        "post",
        "/v1/systemone",
        "createDecisions",
        "Answer typed questions about a state by probabilities",
        {JSON: reference(Decisions)},
        POST_ERRORS,
        DecisionRequest,
    ),
    Operation("get", "/v1/models", "listModels", "List the models: one", {JSON: reference(ModelList)}, {503: Error}),
    Operation(
        "get",
        "/v1/models/{name}",
        "retrieveModel",
        "Tell the options and presets of a model",
        {JSON: reference(Model)},
        {404: Error, 503: Error},
    ),
    Operation("get", "/health", "health", "Tell whether the process lives", {JSON: reference(State)}),
    Operation("get", "/ready", "ready", "Tell whether requests are taken", {JSON: reference(State)}, {503: State}),
    Operation("get", "/metrics", "metrics", "Tell figures for Prometheus", {CONTENT_TYPE: {"type": "string"}}),
    Operation("get", "/openapi.json", "describe", "Return this document", {JSON: {"type": "object"}}),
)


def document(settings: Settings) -> Schema:
    """Return the description of a server with these settings, in OpenAPI 3.1."""
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, settings)
    keys = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if settings.api_keys else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "diffutron-ort", "version": __version__, "description": "A masked-diffusion language model."},
        "paths": paths,
        "components": {"schemas": components(settings), **keys},
    }


def _described(operation: Operation, settings: Settings) -> Schema:
    """Return the description of an operation."""
    needs_key = bool(settings.api_keys) and operation.path not in PUBLIC
    refused = (*ANY_REQUEST, *((401,) if needs_key else ()))
    errors: Mapping[int, type[msgspec.Struct]] = {**dict.fromkeys(refused, Error), **operation.errors}
    bad = {str(status): _answer(status, {JSON: reference(kind)}) for status, kind in sorted(errors.items())}
    return {
        "operationId": operation.name,
        "summary": f"{operation.summary}.",
        **_given(operation),
        "responses": {"200": _answer(200, operation.answers), **bad},
        **({"security": [{"key": []}]} if needs_key else {}),
    }


def _given(operation: Operation) -> Schema:
    """Return the descriptions of an operation's parameter and body."""
    if "{name}" in operation.path:
        name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        return {"parameters": [name]}
    if operation.request:
        return {"requestBody": {"required": True, "content": {JSON: {"schema": reference(operation.request)}}}}
    return {}


def _answer(status: int, content: Mapping[str, Any]) -> Schema:
    """Return the description of an answer, given its schemas by media type."""
    headers = {
        name: {"description": words, "schema": {"type": "string"}} for name, words in HEADERS.get(status, {}).items()
    }
    return {
        "description": HTTPStatus(status).phrase,
        "content": {media: {"schema": schema} for media, schema in content.items()},
        **({"headers": headers} if headers else {}),
    }
