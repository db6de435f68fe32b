import socket

import pytest

from diffutron_ort.serve.processes.sockets import as_bound, listen
from diffutron_ort.serve.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_what_is_written_is_sent_at_once(host):
    listener = listen(Settings(host=host, port=0))
    with listener, socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(("host", "local"), [("127.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_whether_only_this_machine_can_connect_is_read_from_the_socket(host, local):
    settings = Settings(host=host, port=0)
    with listen(settings) as listener:
        assert as_bound(settings, listener).is_local == local
