"""Calibration on planted probabilities: level, deciles, order, and what happens without data."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from headrace.calibration import MIN_EACH, Calibration
from headrace.errors import DataError

ROWS = 300_000  # half to fit on, half to check on


def planted(seed=0, rows=ROWS, base=-2.0):
    """True logits and labels drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    logit = base + 1.2 * torch.randn(rows, generator=generator, dtype=torch.float64)
    label = (torch.rand(rows, generator=generator) < logit.sigmoid()).float()
    return logit, label


def pcoc(probability, label, weight=None):
    weight = torch.ones_like(label) if weight is None else weight
    return float((probability * weight).sum() / (label * weight).sum())


def decile_pcoc(probability, label, weight=None):
    weight = torch.ones_like(label) if weight is None else weight
    return [pcoc(probability[d], label[d], weight[d]) for d in probability.argsort().chunk(10)]


DISTORTIONS = {
    "right": lambda logit: logit,
    "too high": lambda logit: logit + 1.0,
    "too sure": lambda logit: 2.0 * logit + 1.0,
    "too timid": lambda logit: 0.5 * logit,
    "bent": lambda logit: logit + 0.5 * torch.sin(1.5 * logit) + 0.5,
}


@pytest.mark.parametrize("distortion", DISTORTIONS.values(), ids=DISTORTIONS.keys())
def test_held_out_predictions_match_what_happens(distortion):
    logit, label = planted()
    raw = distortion(logit).sigmoid().float()[:, None]
    half = ROWS // 2
    calibration = Calibration.fit(raw[:half], label[:half, None])
    out, after = calibration.apply(raw[half:])[:, 0], label[half:]
    assert pcoc(out, after) == pytest.approx(1, abs=0.02)
    assert decile_pcoc(out, after) == pytest.approx([1] * 10, abs=0.1)  # 15,000 rows each
    assert roc_auc_score(after, out) == pytest.approx(roc_auc_score(after, raw[half:, 0]), abs=1e-6)
    assert len(out.unique()) > 0.99 * len(raw[half:].unique())


def test_weights_stand_for_the_negatives_that_were_left_out():
    logit, label = planted(base=-3.0)
    keep = 0.2
    kept = (label > 0) | (torch.rand(ROWS, generator=torch.Generator().manual_seed(1)) < keep)
    weight = torch.where(label > 0, 1.0, 1 / keep)[kept]
    # a ranker trained on the kept rows sees odds raised by 1 / keep, and is too sure on top
    raw = (1.3 * (logit - math.log(keep))).sigmoid().float()[kept, None]
    label = label[kept]
    half = len(label) // 2
    calibration = Calibration.fit(raw[:half], label[:half, None], weight[:half], keep_rate=keep)
    out = calibration.apply(raw[half:])[:, 0]
    assert pcoc(raw[half:, 0], label[half:], weight[half:]) > 2
    assert pcoc(out, label[half:], weight[half:]) == pytest.approx(1, abs=0.02)
    assert decile_pcoc(out, label[half:], weight[half:]) == pytest.approx([1] * 10, abs=0.1)


def test_tasks_are_calibrated_apart():
    logit, label = planted(rows=50_000)
    other = (label * (torch.rand(50_000, generator=torch.Generator().manual_seed(2)) < 0.3)).float()
    raw = torch.stack([(logit + 1).sigmoid(), (logit - 3).sigmoid()], 1).float()
    both = Calibration.fit(raw, torch.stack([label, other], 1))
    alone = [Calibration.fit(raw[:, [t]], y[:, None]) for t, y in enumerate((label, other))]
    apart = torch.cat([c.apply(raw[:, [t]]) for t, c in enumerate(alone)], 1)
    assert torch.equal(both.apply(raw), apart)
    assert pcoc(apart[:, 0], label) == pytest.approx(1, abs=1e-4)  # exact on the data it saw
    assert pcoc(apart[:, 1], other) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("keep", [1.0, 0.25, 0.01])
def test_keep_rate_is_undone_by_the_formula(keep):
    raw = torch.tensor([[1e-6], [0.01], [0.3], [0.5], [0.99]])
    wanted = raw / (raw + (1 - raw) / keep)
    assert torch.allclose(Calibration.identity(1, keep).apply(raw), wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", ["positives", "negatives"])
def test_too_few_of_a_kind_leave_only_the_keep_rate(kind):
    generator = torch.Generator().manual_seed(3)
    raw = torch.rand(5_000, 1, generator=generator)
    label = torch.zeros(5_000, 1)
    label[: MIN_EACH - 1] = 1
    label = label if kind == "positives" else 1 - label
    few = Calibration.fit(raw, label, keep_rate=0.1)
    assert torch.allclose(few.apply(raw), raw / (raw + (1 - raw) / 0.1), rtol=1e-5)
    label[MIN_EACH] = label[0]  # one more, and there is a curve
    enough = Calibration.fit(raw, label, keep_rate=0.1).apply(raw)
    assert pcoc(enough, label) == pytest.approx(1, abs=1e-3)


def test_no_rows_at_all():
    calibration = Calibration.fit(torch.zeros(0, 2), torch.zeros(0, 2))
    assert torch.allclose(calibration.apply(torch.tensor([[0.2, 0.7]])), torch.tensor([[0.2, 0.7]]))
    assert calibration.apply(torch.zeros(0, 2)).shape == (0, 2)


def test_rows_of_no_weight_do_not_count():
    logit, label = planted(rows=20_000)
    raw = (logit + 1).sigmoid().float()[:, None]
    weight = torch.ones(20_000)
    weight[10_000:] = 0
    fitted = Calibration.fit(raw, label[:, None], weight)
    wanted = Calibration.fit(raw[:10_000], label[:10_000, None])
    assert torch.equal(fitted.apply(raw), wanted.apply(raw))


SCORES = {
    "constant": lambda label, noise: torch.full_like(noise, 0.3),
    "all 0": lambda label, noise: torch.zeros_like(noise),
    "all 1": lambda label, noise: torch.ones_like(noise),
    "perfect": lambda label, noise: 0.1 + 0.8 * label,
    "perfect, 0 and 1": lambda label, noise: label,
    "wrong way round": lambda label, noise: 0.9 - 0.8 * label,
    "chance": lambda label, noise: noise,
    "saturated": lambda label, noise: (200 * (noise - 0.5)).sigmoid(),
    "tiny": lambda label, noise: noise * 1e-30,
}


@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())
def test_any_ranker_is_given_its_level_and_keeps_its_order(scores):
    generator = torch.Generator().manual_seed(4)
    noise = torch.rand(3_000, generator=generator)
    label = (torch.rand(3_000, generator=generator) < 0.2).float()
    calibration = Calibration.fit(scores(label, noise)[:, None], label[:, None])
    out = calibration.apply(scores(label, noise)[:, None])[:, 0]
    assert pcoc(out, label) == pytest.approx(1, abs=0.01)
    line = calibration.apply(torch.linspace(0, 1, 1001)[:, None])[:, 0]
    assert bool((line.diff() >= 0).all())
    assert bool(((line >= 0) & (line <= 1)).all())


@given(st.integers(0, 2**32), st.floats(-4, 1), st.floats(0.2, 3))
@settings(max_examples=25, deadline=None)
def test_the_curve_rises_strictly(seed, base, slope):
    logit, label = planted(seed, 4_000, base)
    raw = (slope * logit).sigmoid().float()
    calibration = Calibration.fit(raw[:, None], label[:, None])
    assert bool((calibration.predicted.diff() > 0).all())
    assert bool((calibration.observed.diff() > 0).all())
    line = (slope * torch.linspace(base - 4, base + 4, 501, dtype=torch.float64)).sigmoid()
    assert bool((calibration.apply(line[:, None])[:, 0].diff() > 0).all())


def test_arrays_restore_it_bit_for_bit():
    logit, label = planted(rows=20_000)
    raw = torch.stack([logit.sigmoid(), (logit + 1).sigmoid()], 1).float()
    calibration = Calibration.fit(raw, torch.stack([label, label], 1))
    arrays = calibration.arrays()
    assert all(type(a) is torch.Tensor and a.is_contiguous() for a in arrays.values())
    assert torch.equal(Calibration.from_arrays(arrays).apply(raw), calibration.apply(raw))


def test_nan_stays_nan_and_touches_no_other():
    out = Calibration.identity(1).apply(torch.tensor([[math.nan], [0.25]]))
    assert math.isnan(out[0, 0]) and out[1, 0] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability_NT": torch.tensor([[math.nan], [0.5]])}, "1 of 2 predictions are not in"),
        ({"probability_NT": torch.tensor([[1.5], [-0.5]])}, "2 of 2 predictions are not in"),
        ({"label_NT": torch.tensor([[0.5], [1.0]])}, "labels must be 0 or 1"),
        ({"label_NT": torch.tensor([[math.nan], [1.0]])}, "labels must be 0 or 1"),
        ({"weight_N": torch.tensor([1.0, -1.0])}, "weights must be finite"),
        ({"weight_N": torch.tensor([1.0, math.inf])}, "weights must be finite"),
        ({"keep_rate": 0.0}, "keep_rate must be above 0"),
        ({"keep_rate": 2.0}, "keep_rate must be above 0"),
    ],
)
def test_data_that_cannot_be_used_is_named(change, message):
    usable = {
        "probability_NT": torch.full((2, 1), 0.5),
        "label_NT": torch.tensor([[0.0], [1.0]]),
        "weight_N": torch.ones(2),
    }
    with pytest.raises(DataError, match=message):
        Calibration.fit(**{**usable, **change})


def test_another_number_of_tasks_is_a_bug():
    with pytest.raises(ValueError, match="calibrated for 2 tasks"):
        Calibration.identity(2).apply(torch.rand(3, 1))
