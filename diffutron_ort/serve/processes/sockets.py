"""The socket to listen on: an address and a port, or a path."""

import errno
import socket
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from diffutron_ort.brief import in_brief
from diffutron_ort.errors import DiffutronError
from diffutron_ort.serve.settings import Settings

BACKLOG = 2048  # connections that the system holds until they are taken


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens where `settings` say.

    Raises:
        DiffutronError: It cannot.
    """
    return _at_path(settings.uds) if settings.uds else _at_port(settings.host, settings.port)


def as_bound(settings: Settings, listener: socket.socket) -> Settings:
    """Return settings with the address that a host's name, or another way to write an address, has come to.

    Whether only this machine can connect hangs on it.
    """
    return settings if settings.uds else replace(settings, host=listener.getsockname()[0])


def address(listener: socket.socket) -> str:
    """Return where clients find a listening socket."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port, *_ = name
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def _at_port(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, name = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise DiffutronError(
            f"host {host!r} cannot be found ({in_brief(error)}): give an address of this machine with --host"
        ) from error
    is_any = host == "::" and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(name, family=family, backlog=BACKLOG, dualstack_ipv6=is_any)
    except OSError as error:
        raise DiffutronError(_refused(host, port, error)) from error
    # Its connections inherit this, which asyncio sets on sockets of its own alone. Without it, an answer's body waits
    # 40 ms for the client to acknowledge its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    return listener


def _refused(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is in use: give another with --port; 0 is any free one"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine: give one with --host"
        case errno.EACCES:
            return f"port {port} needs more rights than this process has: give one from 1024 on with --port"
    return f"cannot listen on port {port} of {host}: {error.strerror}"


def _at_path(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove_abandoned(path)
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise DiffutronError(f"cannot listen on {path}: {error.strerror or error}; give another with --uds") from error
    return listener


def _remove_abandoned(path: str) -> None:
    """Remove a socket on which nobody listens any more."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(Path(path).stat().st_mode):
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(path)
                except ConnectionRefusedError:
                    Path(path).unlink()
