import pytest
import torch
from hypothesis import settings

from tests import tiny

torch.set_num_threads(1)  # tiny tensors: threads cost more than they give
settings.register_profile("fast", max_examples=40, deadline=None, derandomize=True)
settings.load_profile("fast")


@pytest.fixture(scope="session")
def tiny_log(tmp_path_factory):
    """A log of 40 users, 60 items, exposures and three event types; read-only."""
    return tiny.write(tmp_path_factory.mktemp("tiny"), tiny.raw_log())


@pytest.fixture(scope="session")
def tiny_samples(tiny_log):
    return tiny.samples(tiny_log)


@pytest.fixture(scope="session")
def batch(tiny_samples):
    """The candidates of the last 40 training requests, with their features; read-only."""
    rows = tiny_samples.requests("train")[-40:]
    return tiny_samples.batch(tiny_samples.draw(rows, seed=3))
