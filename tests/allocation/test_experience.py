"""What chance let happen is told from what the policy chose, and little of it moves little."""

import json

import numpy as np
import pytest

from headrace.allocation import experience
from headrace.allocation.actions import Actions
from headrace.allocation.experience import correct
from headrace.allocation.features import Describer
from headrace.allocation.logged import Logged
from headrace.allocation.model import Model
from headrace.errors import DataError

COST = np.array([1.0, 2.0, 4.0, 8.0])
PLANS = [{"own": n, "retrieval": 60, "preranking": n, "reranking": 5} for n in (5, 10, 20, 40)]


def lived(size, truth, noise, share=0.05, seed=0):
    """Rich requests are thought worth dearer plans, and bring more whatever runs."""
    rng = np.random.default_rng(seed)
    rich = rng.lognormal(0, 0.7, size)
    step = rich[:, None] * np.array([3.0, 1.0, 0.5, 0.25])
    first = np.minimum(2, np.searchsorted([0.7, 1.6], rich))
    share = np.full(size, share)
    explored = rng.random(size) < share
    at = np.where(explored, 3, first)
    ran = np.arange(4) <= at[:, None]
    real = (step * truth * ran).sum(axis=1) + 5 * rich + rng.normal(0, noise, size)
    return step, first, np.full(size, 3), explored, share, real


def test_what_more_computation_really_brings():
    truth = np.array([1.0, 0.5, 0.5, 0.5])
    told = correct(*lived(40_000, truth, 0.5))
    assert told.ratio == pytest.approx(0.5, abs=3 * told.error) and told.error < 0.1
    assert np.allclose(told.scale_J[1:], 0.5, atol=0.15)
    assert told.compared == 40_000 and 1_800 < told.explored < 2_200


def test_one_step_is_told_from_another():
    truth = np.array([1.0, 1.0, 1.0, 0.0])
    scale = correct(*lived(200_000, truth, 0.2)).scale_J
    assert scale[3] < 0.2 and np.allclose(scale[1:3], 1, atol=0.25)


def test_little_and_noisy_experience_moves_little():
    scale = correct(*lived(300, np.full(4, 0.5), 50)).scale_J
    assert np.allclose(scale, 1, atol=0.2)


def test_its_error_is_the_error_it_makes():
    told = [correct(*lived(3_000, np.ones(4), 5, seed=seed)) for seed in range(60)]
    off = np.array([(each.ratio - 1) / each.error for each in told])
    assert abs(off.mean()) < 0.4 and 0.7 < off.std() < 1.4


def test_clipped_weights_do_not_mislead():
    """At a share of .002 weights are cut to a fifth; what requests bring anyway stays out."""
    told = [correct(*lived(60_000, np.ones(4), 0.1, 0.002, seed=s)) for s in range(12)]
    assert np.mean([each.ratio for each in told]) == pytest.approx(1, abs=0.15)


def test_steps_that_bring_harm_are_worth_nothing():
    scale = correct(*lived(40_000, np.array([1.0, -2, -2, -2]), 0.1)).scale_J
    assert (scale >= 0).all() and (scale[1:] < 0.5).all()


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    worth = rng.lognormal(0, 0.5, 400)
    gain = worth[:, None] * np.array([3.0, 4.0, 4.5, 4.75])
    logged = Logged(
        worth[:, None] * np.ones(4),
        np.ones((400, 4, 9)) * worth[:, None, None],
        gain,
        gain,
        np.arange(400),
        np.arange(400),
    )
    return Model.fit(
        Actions.of(PLANS, COST, COST), Describer("", ("rank",)), logged, "linear", "v1"
    )


def test_a_corrected_model(model, tmp_path):
    x = np.ones((1, 8))
    half = model.corrected(np.array([9.0, 0.5, 0.5, 0.5]))
    half.write(tmp_path)
    half = Model.read(tmp_path, ("own",))
    was, now = model.before.predict(x)[0], half.before.predict(x)[0]
    assert now[0] == was[0]  # the level stays
    assert np.allclose(np.diff(now), np.diff(was) / 2)
    assert np.allclose(half.before.steps(x), model.before.steps(x))
    assert np.allclose(np.diff(half.pool()), np.diff(model.pool()) / 2)
    assert np.allclose(model.pool(), model.pool_NJ)
    again = half.corrected(np.ones(4))  # anew, not on top
    assert np.allclose(again.before.predict(x), model.before.predict(x))


def test_after_preranking_steps_of_a_family_grow_as_those_between(model):
    quotas = [dict(plan, own=own) for plan, own in zip(PLANS, (5, 7, 5, 7), strict=True)]
    rng = np.random.default_rng(0)
    gain = rng.lognormal(0, 0.3, (300, 1)) * np.array([3.0, 4.0, 6.0, 7.0])
    n = np.arange(300)
    logged = Logged(np.ones((300, 4)), np.ones((300, 2, 9)), gain, gain, n, n)
    actions = Actions.of(quotas, COST, COST)
    two = Model.fit(actions, Describer("", ("rank",)), logged, "linear")
    x = np.ones((1, 17))
    was = two.after.predict(x)[0]
    now = two.corrected(np.array([1.0, 0.5, 1.0, 0.0])).after.predict(x)[0]
    # 0 to 2 was 1 + 2 and is .5 + 2; 1 to 3 was 2 + 1 and is 2
    assert now[2] - now[0] == pytest.approx((was[2] - was[0]) * 2.5 / 3, rel=1e-3)
    assert now[3] - now[1] == pytest.approx((was[3] - was[1]) * 2 / 3, rel=1e-3)


def line(model, **changes):
    keys = model.actions.keys
    row = {
        "format": 2,
        "version": "v1",
        "user": 1,
        "time_ms": 10,
        "explored": False,
        "share": 0.01,
        "first": keys[1],
        "widest": keys[3],
        "features": [1.0] * 4,
        "items": [1, 2],
    }
    return json.dumps(row | changes)


def test_lines_that_tell_nothing_are_counted(model, tmp_path):
    bad = [
        '{"format": 2, "ver',
        "[]",
        "7",
        line(model, user=1.5),
        line(model, user=-1),
        line(model, user=1 << 63),
        line(model, time_ms=None),
        line(model, time_ms=1 << 62),
        line(model, explored=1),
        line(model, share=2),
        line(model, share="x"),
        line(model, features=[0.0, 1.0]),
        line(model, features=[1.0, 1.0, None, 1.0]),
        line(model, items=[0]),
        line(model, items=[99]),
        line(model, items=None),
        line(model, first=None),
    ]
    old = [line(model, version="v0"), '{"user": 1, "time_ms": 5}', line(model, format=1)]
    good = [
        line(model, time_ms=30, first="gone"),
        line(model),
        line(model, time_ms=20, explored=True),
        line(model, time_ms=20, explored=False, items=[3]),  # asked again
    ]
    (tmp_path / "decisions.jsonl.1").write_text("\n".join([*bad, *old]) + "\n")
    (tmp_path / "decisions.jsonl").write_bytes(
        "\n".join(good).encode() + b"\n\xff\xfe\n" + line(model)[:-9].encode()
    )
    told = experience.read(tmp_path, model, 10)
    assert dict(told.left_out) == {"torn": len(bad) + 2, "of another version": len(old)}
    assert told.time_ms_N.tolist() == [10, 20, 30]
    assert told.first_N.tolist() == [1, 1, -1] and told.widest_N.tolist() == [3, 3, 3]
    assert (told.items[1].tolist(), told.explored_N.tolist()) == ([3], [False, False, False])


def test_without_a_log_of_decisions(model, tmp_path):
    with pytest.raises(DataError, match="no decisions; serve with `--allocator dcaf` first"):
        experience.read(tmp_path, model, 10)
    (tmp_path / "decisions.jsonl").write_text("")
    assert len(experience.read(tmp_path, model, 10)) == 0
