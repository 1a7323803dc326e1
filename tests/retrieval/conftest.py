import pytest


@pytest.fixture(scope="module")
def requests(tiny_samples):
    return tiny_samples.features(tiny_samples.requests("test")[:20])
