"""Each measure of predictions against its definition, written out slowly."""

import math
from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.evaluation import metrics

ROW = st.tuples(
    st.integers(0, 4),  # user
    st.sampled_from([0.0, 1.0]),  # label
    st.integers(1, 19).map(lambda n: n / 20),  # prediction, with ties
    st.sampled_from([1.0, 2.5, 10.0]),  # weight
)
ROWS = st.lists(ROW, min_size=1, max_size=40)
slow = settings(max_examples=30, deadline=None)


def columns(rows):
    return (np.array(column) for column in zip(*rows, strict=True))


def slow_auc(rows):
    """Weighted share of (positive, negative) pairs in the right order; None for one class."""
    pairs = [(p, n) for p in rows if p[1] == 1 for n in rows if n[1] == 0]
    right = sum(p[3] * n[3] * ((p[2] > n[2]) + (p[2] == n[2]) / 2) for p, n in pairs)
    return right / sum(p[3] * n[3] for p, n in pairs) if pairs else None


@slow
@given(ROWS)
def test_auc_is_the_share_of_pairs_in_order(rows):
    _, label, score, weight = columns(rows)
    want = slow_auc(rows)
    got = metrics.auc(label, score, weight)
    assert math.isnan(got) if want is None else got == pytest.approx(want)


@slow
@given(ROWS)
def test_gauc_averages_users_by_impressions_and_counts_the_skipped(rows):
    user, label, score, weight = columns(rows)
    by_user = groupby(sorted(rows), key=lambda r: r[0])
    users = [(slow_auc(group), sum(r[3] for r in group)) for group in (list(g) for _, g in by_user)]
    both = [(a, w) for a, w in users if a is not None]
    got = metrics.gauc(user, label, score, weight)
    assert (got.users, got.skipped) == (len(both), len(users) - len(both))
    if both:
        assert got.gauc == pytest.approx(sum(a * w for a, w in both) / sum(w for _, w in both))
    else:
        assert math.isnan(got.gauc)


@slow
@given(ROWS)
def test_likelihood_and_calibration_ratios(rows):
    _, label, p, weight = columns(rows)
    total = sum(r[3] for r in rows)
    loss = sum(-r[3] * math.log(r[2] if r[1] else 1 - r[2]) for r in rows) / total
    assert metrics.logloss(label, p, weight) == pytest.approx(loss)
    rate = sum(r[1] * r[3] for r in rows) / total
    pcoc, entropy = metrics.pcoc(label, p, weight), metrics.normalised_entropy(label, p, weight)
    assert (
        math.isnan(pcoc)
        if rate == 0
        else pcoc == pytest.approx(sum(r[2] * r[3] for r in rows) / (rate * total))
    )
    if rate in (0, 1):
        assert math.isnan(entropy)
    else:
        base = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
        assert entropy == pytest.approx(loss / base)


def test_a_sampled_negative_weighs_for_those_left_out():
    label, p = np.array([1.0, 0.0, 0.0, 0.0, 0.0]), np.array([0.3, 0.2, 0.2, 0.2, 0.2])
    full = metrics.logloss(label, p), metrics.pcoc(label, p)
    kept, weight = [0, 1], np.array([1.0, 4.0])
    assert metrics.logloss(label[kept], p[kept], weight) == pytest.approx(full[0])
    assert metrics.pcoc(label[kept], p[kept], weight) == pytest.approx(full[1])


def test_a_sure_and_wrong_prediction_costs_a_finite_loss():
    got = metrics.logloss(np.array([1.0, 0.0]), np.array([0.0, 0.0]))
    assert got == pytest.approx(-math.log(1e-7) / 2, rel=1e-5)


def test_tensors_and_arrays_are_the_same():
    rng = np.random.default_rng(0)
    label, p = (rng.random(50) < 0.4).astype(np.float32), rng.random(50).astype(np.float32)
    tensors = torch.from_numpy(label), torch.from_numpy(p).requires_grad_()
    assert metrics.auc(*tensors) == metrics.auc(label, p)
    assert metrics.gauc(torch.arange(50) % 5, *tensors) == metrics.gauc(np.arange(50) % 5, label, p)


@slow
@given(ROWS, st.randoms())
def test_calibration_bins_hold_everything_once_and_ignore_the_order(rows, random):
    _, label, p, weight = columns(rows)
    bins = metrics.calibration(label, p, weight)
    assert sum(b["count"] for b in bins) == len(rows)
    assert len(bins) <= 10
    assert [b["p"] for b in bins] == sorted(b["p"] for b in bins)
    shuffled = random.sample(rows, len(rows))
    _, label, p, weight = columns(shuffled)
    for a, b in zip(bins, metrics.calibration(label, p, weight), strict=True):
        assert a == pytest.approx(b)


def test_calibration_of_distinct_predictions_is_by_deciles():
    p = np.arange(1, 41) / 41
    label = (np.arange(40) % 4 == 0).astype(float)
    bins = metrics.calibration(label, p)
    assert [b["count"] for b in bins] == [4] * 10
    assert bins[0]["p"] == pytest.approx(p[:4].mean())
    assert bins[3]["y"] == pytest.approx(0.25)
    assert bins[3]["se"] == pytest.approx(math.sqrt(0.25 * 0.75 / 4))


def test_bootstrap_agrees_with_the_theory_of_the_mean():
    values = np.random.default_rng(1).normal(size=400)
    values[7] = np.nan
    theory = np.nanstd(values) / math.sqrt(399)
    assert metrics.standard_error(values, seed=0) == pytest.approx(theory, rel=0.1)
    assert metrics.standard_error(values, seed=0) == metrics.standard_error(values, seed=0)
    assert metrics.standard_error(values, seed=0) != metrics.standard_error(values, seed=1)
    assert metrics.mean(values) == pytest.approx(np.nanmean(values))


def test_nothing_defined_is_nan():
    assert math.isnan(metrics.mean(np.array([np.nan])))
    assert math.isnan(metrics.standard_error(np.array([np.nan])))


@pytest.mark.parametrize(
    ("label", "score", "what"),
    [
        ([1.0, 0.0], [0.5], "2 labels, 1 scores"),
        ([], [], "0 labels"),
        ([1.0, 0.0], [np.nan, 0.5], "1 of 2 scores are not finite"),
    ],
)
def test_a_broken_column_is_not_scored(label, score, what):
    with pytest.raises(ValueError, match=what):
        metrics.auc(np.array(label), np.array(score))
