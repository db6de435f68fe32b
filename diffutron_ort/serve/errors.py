"""Errors as OpenAI's clients read them: a status, and an object that says what is wrong."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
from starlette.responses import Response

TYPES: Mapping[int, str] = MappingProxyType(
    {
        HTTPStatus.UNAUTHORIZED: "authentication_error",
        HTTPStatus.FORBIDDEN: "permission_error",
        HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    }
)
PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class ApiError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: The HTTP status.
        message: What is wrong, what is allowed, and what to do; never a path, a trace or another's text.
        code: A name for programs, such as `context_length_exceeded`.
        param: The field of the request that is wrong.
        headers: Of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Set up the error.

        Args:
            status: The HTTP status.
            message: What is wrong.
            code: A name for programs; None takes the status's.
            param: The field that is wrong.
            retry_after: Seconds until the same request may succeed. Without it, clients are told not to try again,
                except where the status alone says that they may.
            headers: More headers of the answer.
        """
        super().__init__(message)
        self.status, self.message, self.param = int(status), message, param
        self.code = code or HTTPStatus(status).name.lower()
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)
        elif self.status not in PASSING:  # OpenAI's clients repeat 409 and 5xx unless they are told not to
            self.headers["x-should-retry"] = "false"

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object that tells a client of the error."""
        fallback = "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        kind = TYPES.get(self.status, fallback)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """Return the answer to the request."""
        content = msgspec.json.encode(self.content)
        return Response(content, self.status, self.headers, "application/json")


def failure() -> ApiError:
    """Return what is told of an unforeseen error: nothing but where to look."""
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "the server has failed at this request; its log tells more under the id in x-request-id",
        code="internal_error",
    )
