"""By which name a server is called, and from which site: what keeps other sites' pages away from it."""

from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.guards.heads import header
from diffutron_ort.serve.settings import Settings

EXPOSED = "x-request-id, x-ignored, x-should-retry, retry-after"
SECONDS = "600"  # for which a browser remembers an answer to a preflight
PORTS = {"http": ":80", "https": ":443"}  # which browsers leave out


class HostCheck:
    """Refuses requests to other names than this server's.

    A site can let its name lead to this machine, and its pages would then be this server's own to a browser (DNS
    rebinding); but they still send that name. An address cannot be made to lead elsewhere.
    """

    def __init__(self, settings: Settings) -> None:
        self._allowed = frozenset(host.lower() for host in settings.allow_hosts)
        self._is_local = settings.is_local and settings.uds is None
        self._is_on = self._is_local or bool(self._allowed)

    def __call__(self, scope: Scope) -> None:
        """Check a request.

        Raises:
            ApiError: It is for another host.
        """
        if self._is_on and not self._allows(header(scope, b"host").decode("latin-1").strip().lower()):
            advice = "call this server by its address, or allow the name with --allow-host"
            raise ApiError(HTTPStatus.MISDIRECTED_REQUEST, f"the header Host names another server: {advice}")

    def _allows(self, host: str) -> bool:
        name = _without_port(host)
        return {host, name} & self._allowed != set() or name == "localhost" or self._is_address(name.strip("[]"))

    def _is_address(self, name: str) -> bool:
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._is_local


class OriginCheck:
    """Refuses requests that a browser sends for pages of other sites, but for those that are allowed."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = frozenset(settings.cors)

    def __call__(self, scope: Scope) -> None:
        """Check a request.

        Raises:
            ApiError: It comes from a page of a site that is not allowed.
        """
        origin = header(scope, b"origin").decode("latin-1")
        if not (origin == "" or is_allowed(origin, self._allowed) or _is_own(origin, scope)):
            raise ApiError(HTTPStatus.FORBIDDEN, "pages of this origin may not use this server: allow it with --cors")


class Cors:
    """Tells browsers that pages of the allowed origins may read the answers, whether good or bad."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._allowed = frozenset(settings.cors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the headers to its answer."""
        origin = header(scope, b"origin").decode("latin-1")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), origin)
            await send(message)

        await self._app(scope, receive, send_with_headers if self._allowed else send)

    def _add_headers(self, headers: MutableHeaders, origin: str) -> None:
        headers.add_vary_header("Origin")
        if origin and is_allowed(origin, self._allowed):
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = EXPOSED


def is_allowed(origin: str, allowed: frozenset[str]) -> bool:
    """Return whether pages of an origin may use a server."""
    return origin in allowed or "*" in allowed


def preflight(scope: Scope) -> Response | None:
    """Return the answer to a browser's question whether a page may send a request; None for any other request."""
    if scope["method"] != "OPTIONS" or not header(scope, b"access-control-request-method"):
        return None
    headers = {"access-control-allow-methods": "GET, POST", "access-control-max-age": SECONDS}
    if asked := header(scope, b"access-control-request-headers"):
        headers["access-control-allow-headers"] = asked.decode("latin-1")
        headers["vary"] = "Access-Control-Request-Headers"
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)


def _is_own(origin: str, scope: Scope) -> bool:
    """Return whether an origin is this server, as the client calls it."""
    try:
        scheme, authority, *_ = urlsplit(origin.lower())
    except ValueError:
        return False
    port = PORTS.get(scheme, "")
    host = header(scope, b"host").decode("latin-1").lower()
    return bool(authority) and authority.removesuffix(port) == host.removesuffix(port)


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdecimal() else host
