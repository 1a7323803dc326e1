"""A fitted model and a replay on disk, and what they refuse to be made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headrace.allocation.actions import Actions
from headrace.allocation.features import Describer
from headrace.allocation.logged import Logged
from headrace.allocation.model import Model
from headrace.data import Ragged
from headrace.errors import ConfigError, DataError
from tests.allocation.planted import CHANNELS, COST, PLANS, fitted, logged, requests, worths


def test_a_model_comes_back_from_disk(tmp_path):
    model = fitted()
    model.write(tmp_path)
    again = Model.read(tmp_path, CHANNELS)
    asked = requests(worths(5))
    assert np.array_equal(model.expect(asked)[1], again.expect(asked)[1])


def test_a_replay_comes_back_or_says_what_is_wrong(tmp_path):
    path = tmp_path / "replay.npz"
    with pytest.raises(DataError, match="run `headrace allocate replay` first"):
        Logged.read(path)
    logged(20).write(path)
    assert np.array_equal(Logged.read(path).gain_NJ, logged(20).gain_NJ)
    whole = path.read_bytes()
    for torn in (b"no", b"", whole[: len(whole) // 2]):
        path.write_bytes(torn)
        with pytest.raises(DataError, match=r"no replay \(.*\); replay again"):
            Logged.read(path)


def test_gains_that_are_no_numbers_are_refused():
    bad, actions = logged(10), Actions.of(PLANS, COST, COST)
    bad.gain_NJ[3, 1] = np.nan
    with pytest.raises(DataError, match="value formula"):
        Model.fit(actions, Describer("", ("rank",)), bad)
    with pytest.raises(DataError, match="no requests"):
        Model.fit(actions, Describer("", ("rank",)), bad.take(np.arange(0)))


def test_describer_names_a_wrong_sequence():
    with pytest.raises(ConfigError, match=r"allocation\.history: no sequence 'x'"):
        Describer.of(requests([1]), "x")
    assert Describer.of(requests([1]), "").names == ("utc_hour", "utc_weekday", "rank", "excluded")


def test_how_much_a_request_leaves_out_is_known_of_it():
    asked = requests([1, 2, 3])
    left_out = Ragged.of([torch.arange(n) for n in (0, 2, 5)])
    told_BF = Describer.of(asked, "")(replace(asked, exclude=left_out))
    assert told_BF[:, -1].tolist() == [0, 2, 5]
