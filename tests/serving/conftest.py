"""Servers for tests: real ones, on a free port, in a thread of this process."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from headrace.serving.http import app_of
from tests.serving import shop


@contextmanager
def served(service):
    """A client of a server around ``service``; it stops like one that was told to."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app_of(service), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    port = listener.getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def ready(client):
    """Wait until the server is warm."""
    deadline = time.time() + 60
    while client.get("/readyz").status_code != 200:
        assert time.time() < deadline
        time.sleep(0.01)
    return client


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    return shop.write(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def service(log):
    """A service for tests that change nothing."""
    return shop.service(log)


@pytest.fixture(scope="session")
def client(log):
    """A server for tests that change nothing."""
    with served(shop.service(log, max_body_bytes=5_000)) as client:
        yield ready(client)


@pytest.fixture
def fresh(log, tmp_path):
    """A server for tests that change something, and the folder of its journals."""
    with served(shop.service(log, tmp_path)) as client:
        yield ready(client), tmp_path
