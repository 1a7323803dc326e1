"""What is told of a user's past: nothing of strangers, nothing of the request itself."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.allocation.actions import Actions
from headrace.allocation.compare import Pool
from headrace.allocation.past import Past, askers, so_far
from tests.allocation.planted import COST, PLANS, logged

LISTS = st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), min_size=1, max_size=30)


def gains(value_N):
    return np.asarray(value_N)[:, None] * np.array([1.0, 3.0, 3.5])


@given(LISTS)
def test_so_far_is_the_mean_of_earlier_requests_drawn_to_the_usual(rows):
    user_N, gain_NJ = np.array([u for u, _ in rows]), gains([v for _, v in rows])
    best = gain_NJ.mean(axis=0).argmax()
    less_NJ = gain_NJ - gain_NJ[:, [best]]
    less_NJ[:, best] = gain_NJ[:, best]
    over_NJ = less_NJ - less_NJ.mean(axis=0)
    told_NJ = so_far(user_N, gain_NJ)
    for n, user in enumerate(user_N):
        earlier = over_NJ[:n][user_N[:n] == user]
        assert np.allclose(told_NJ[n], earlier.sum(axis=0) / (len(earlier) + 1))
    for user in range(5):
        own = over_NJ[user_N == user]
        told = Past.of(user_N, gain_NJ)(np.array([user]))[0]
        assert np.allclose(told, own.sum(axis=0) / (len(own) + 1))


def test_of_strangers_nothing_is_told():
    past = Past.of(np.array([3, 7, 3]), gains([1.0, 2.0, 4.0]))
    told_BJ = past(np.array([0, 3, 5, 9]))
    assert told_BJ[[0, 2, 3]].tolist() == np.zeros((3, 3)).tolist() and told_BJ[1].any()


def test_what_is_new_to_a_user_is_asked_for_by_another():
    excluded = np.array([0.0, 3.0, 0.0, 1.0])
    asker_N = askers(np.array([5, 5, 6, 5]), np.stack([np.arange(4.0), excluded], axis=1))
    told_NJ = so_far(asker_N, gains([1.0, 9.0, 4.0, 2.0]))
    assert told_NJ[:3].tolist() == np.zeros((3, 3)).tolist() and told_NJ[3, 1] != 0
    assert len(set(asker_N.tolist())) == 3 and asker_N[1] == asker_N[3]


def test_it_foretells_what_users_keep():
    rng = np.random.default_rng(0)
    user_N = rng.integers(1, 200, 3000)
    worth_N = rng.lognormal(0, 1, 200)[user_N] * rng.lognormal(0, 0.3, 3000)
    made = logged(3000)
    gain_NJ = worth_N[:, None] * (1 - np.exp(-0.4 * COST))
    same = replace(made, feature_NF=np.zeros((3000, 1)), gain_NJ=gain_NJ, user_N=user_N)
    pool = Pool.of(Actions.of(PLANS, COST, COST), same)
    truth_N, told_N = (x[:, -1] - x[:, 0] for x in (pool.gain_NJ, pool.expected_NJ))
    assert np.corrcoef(truth_N, told_N)[0, 1] > 0.8
    spoilt = replace(same, gain_NJ=np.where(np.arange(3000)[:, None] < 1500, gain_NJ, 0.0))
    later = Pool.of(Actions.of(PLANS, COST, COST), spoilt)
    assert np.array_equal(later.expected_NJ, pool.expected_NJ)  # nothing that is judged was seen
