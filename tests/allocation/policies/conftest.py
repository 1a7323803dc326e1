"""What a replay of planted requests taught."""

import pytest

from tests.allocation.planted import fitted


@pytest.fixture(scope="module")
def model():
    return fitted()
