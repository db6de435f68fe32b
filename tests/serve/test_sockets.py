import socket

import pytest

from diffutron_ort.serve.processes.sockets import listen
from diffutron_ort.serve.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_what_is_written_is_sent_at_once(host):
    listener = listen(Settings(host=host, port=0))
    with listener, socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
