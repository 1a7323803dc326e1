"""The socket that the server listens on."""

import socket

import pytest

from headrace.errors import ConfigError
from headrace.serving.http import _listen


def test_connections_send_at_once():
    """Nagle's algorithm holds a small body back until the head is acknowledged."""
    with _listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_taken_port_is_named():
    with _listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: cannot listen there"):
            _listen("127.0.0.1", port)
