"""What stands before the app: who may ask, what a request may look like, and what is told of errors."""

from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffutron_ort.serve import logs, page
from diffutron_ort.serve.errors import ApiError, failure
from diffutron_ort.serve.guards import heads
from diffutron_ort.serve.guards.access_log import AccessLog
from diffutron_ort.serve.guards.bodies import Body, HungUp
from diffutron_ort.serve.guards.keys import KeyCheck
from diffutron_ort.serve.guards.origins import Cors, HostCheck, OriginCheck, preflight
from diffutron_ort.serve.settings import Settings

Check = Callable[[Scope], None]  # raises ApiError

PUBLIC = page.PATHS | {"/health", "/ready", "/openapi.json"}
"""The paths that need no key."""


def guarded(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Return an app that answers the requests which it refuses, and passes the others on with their bodies read."""
    outer = AccessLog(Cors(Guard(app, settings), settings))

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await (outer if scope["type"] == "http" else app)(scope, receive, send)

    return call


class Guard:
    """Checks each request before `app` sees it, and turns every error into an answer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._whence: tuple[Check, ...] = (heads.check_size, HostCheck(settings), OriginCheck(settings))
        self._what: tuple[Check, ...] = (KeyCheck(settings.api_keys, PUBLIC), heads.check_content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let `app` do so."""
        body, answer = Body(scope, receive), _Answer(send)
        try:
            await self._pass_on(scope, body, answer)
        except HungUp:
            pass
        except ApiError as error:
            await self._refuse(error, scope, body, answer)
        except Exception as error:
            trace = logs.trace(error, with_message=self._settings.log_text)
            logs.write({"level": "error", "id": scope["state"]["request_id"], "trace": trace})
            await self._refuse(failure(), scope, body, answer)

    async def _pass_on(self, scope: Scope, body: Body, answer: "_Answer") -> None:
        for check in self._whence:
            check(scope)
        if response := preflight(scope):
            await response(scope, body.receive, answer.send)
            return
        for check in self._what:
            check(scope)
        await body.read(self._settings.max_body, self._settings.body_timeout)
        await self._app(scope, body.receive, answer.send)

    async def _refuse(self, error: ApiError, scope: Scope, body: Body, answer: "_Answer") -> None:
        """Answer with an error; a connection on which an answer has begun is closed by whoever called."""
        if answer.has_begun:
            return
        if error.status != HTTPStatus.REQUEST_TIMEOUT:
            await body.discard()
        response = error.response()
        if not body.is_read:
            response.headers["connection"] = "close"
        await response(scope, body.receive, answer.send)


class _Answer:
    """The answer to a request: whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def send(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)
