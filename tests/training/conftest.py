import signal

import pytest


@pytest.fixture(autouse=True)
def _interruptible():
    """Ctrl-C works in tests, also when a shell started them in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
