"""A report with every key, of a size and shape that a real one has."""

import math

import pytest

from headrace.evaluation import Report


def quality(recall, ndcg, value, hit_rate, mrr, coverage):
    return {
        "recall@10": recall,
        "ndcg@10": ndcg,
        "value": value,
        "hit_rate@10": hit_rate,
        "mrr@10": mrr,
        "coverage@10": coverage,
        "se": {"recall@10": recall * 0.03 + 0.001, "ndcg@10": ndcg * 0.03, "value": value * 0.04},
    }


def recall_at(ten, fifty, two_hundred):
    found = {"recall@10": ten, "recall@50": fifty, "recall@200": two_hundred}
    return {**found, "se": {name: value * 0.03 + 0.001 for name, value in found.items()}}


def channel(all_items, new, hits, exclusive_recall, coverage, items):
    return {
        **recall_at(*all_items),
        "exclusive_hits": hits,
        "exclusive_recall": exclusive_recall,
        "coverage": coverage,
        "items": items,
        "new_to_user": recall_at(*new),
    }


def ranker(auc, gauc, logloss, pcoc, tilt):
    predicted = [0.0021, 0.0043, 0.0068, 0.0101, 0.0147, 0.0213, 0.0312, 0.0481, 0.0835, 0.2312]
    bins = [
        {"p": p, "y": p * (1 + tilt * math.sin(i)), "se": p * 0.06, "count": 41_200 + 13 * i}
        for i, p in enumerate(predicted)
    ]
    return {
        "auc": auc,
        "gauc": gauc,
        "gauc_users": 1_611,
        "gauc_skipped": 117,
        "logloss": logloss,
        "normalised_entropy": logloss / 0.187,
        "pcoc": pcoc,
        "calibration": bins,
        "seeds": 3,
        "sd": {"auc": 0.0012, "gauc": 0.0016, "logloss": 0.0004, "pcoc": 0.011},
    }


def reach(shares, items, known, days):
    return {"items": items, "share": shares, "known": known, "days": days}


def d_category():
    near = [0.09, 0.11, 0.19, 0.24, 0.2, 0.1, 0.05, 0.02]
    far = [0.06, 0.1, 0.18, 0.23, 0.19, 0.13, 0.08, 0.03]
    order = [0.93, 0.91, 0.9, 0.89, 0.88, 0.87, 0.86, None]
    return {
        "from_days": [-1, 0, 1, 3, 7, 14, 30, 90],
        "exposures": [0.31, 0.04, 0.07, 0.12, 0.14, 0.14, 0.12, 0.06],
        "positives": [402, 711, 1_204, 1_390, 1_121, 807, 350, 97],
        "models": {
            "ranking": {
                "shown": reach(far, 17_280, 0.94, 13.3),
                "taken": reach(near, 2_104, 0.95, 10.8),
                "auc": order,
                "gauc": order,
            },
            "lr": {
                "shown": reach(near, 17_280, 0.91, 11.2),
                "taken": reach(near, 1_988, 0.93, 9.9),
                "auc": order,
                "gauc": order,
            },
        },
    }


def consistency():
    names = ("hit", "worth_hit", "ndcg", "taken_hit")
    values = {"10": (0.48, 0.5, 0.71, 0.16), "50": (0.91, 0.93, 0.88, 0.27)}
    kind = {"candidates": 0.04, "favourites": 211, "taken": 940}
    return {
        "favourites": 10,
        "requests": 1_728,
        "tau": 0.61,
        "at": {
            k: {**dict(zip(names, row, strict=True)), "se": dict.fromkeys(names, 0.004)}
            for k, row in values.items()
        },
        "sets": {
            "10": {"real": 1.23, "predicted": 1.24, "error": 0.25, "error_of_sum": 0.31},
            "50": {"real": 1.29, "predicted": 1.29, "error": 0.23, "error_of_sum": 0.31},
        },
        "cut": 50,
        "kinds": {
            "new items": {**kind, "hit": 0.71, "worth_hit": 0.73, "taken_hit": 0.052},
            "small by brand": {**kind, "hit": None, "worth_hit": None, "taken_hit": 0.1},
        },
    }


def training(seconds, start, floor, steps, every):
    curve = [
        {
            "step": step,
            "train": floor
            + (start - floor) * math.exp(-step / (steps / 5))
            + 0.004 * math.sin(step),
            "valid": floor + 0.006 + (start - floor) * math.exp(-step / (steps / 6))
            if step % (5 * every) == 0
            else None,
        }
        for step in range(every, steps + 1, every)
    ]
    return {"seconds": seconds, "loss": curve}


NAMES = ["popular", "repurchase", "item_cf", "swing", "two_tower"]
JACCARD = [
    [1.0, 0.14, 0.19, 0.11, 0.22],
    [0.14, 1.0, 0.31, 0.24, 0.27],
    [0.19, 0.31, 1.0, 0.48, 0.29],
    [0.11, 0.24, 0.48, 1.0, 0.21],
    [0.22, 0.27, 0.29, 0.21, 1.0],
]


def whole_report() -> Report:
    share = [
        [min(1.0, 2 * x / (1 + x) + 0.03 * (a - b)) for b, x in enumerate(row)]
        for a, row in enumerate(JACCARD)
    ]
    for i in range(len(NAMES)):
        share[i][i] = 1.0
    return {
        "version": "0.1.0",
        "config": "complete_journey.toml",
        "created": "2025-03-14T09:26:53+00:00",
        "data": {
            "name": "Complete Journey",
            "users": 2_469,
            "items": 68_509,
            "events": 1_455_732,
            "requests": 1_728,
            "requests_new_to_user": 1_640,
            "truth_per_request": 11.4,
            "new_to_user_share": 0.56,
            "value_unit": "USD",
            "intervals": {
                "log": {"start": "2017-01-01T11:53:26+00:00", "end": "2017-12-31T22:55:00+00:00"},
                "train": {"start": "2017-01-01T11:53:26+00:00", "end": "2017-12-10T23:59:59+00:00"},
                "validation": {
                    "start": "2017-12-11T00:00:00+00:00",
                    "end": "2017-12-17T23:59:59+00:00",
                },
                "test": {"start": "2017-12-18T00:00:00+00:00", "end": "2017-12-31T22:55:00+00:00"},
            },
            "notes": [
                "8,869 events with a quantity of 0 or less dropped",
                "4,836 events without a product dropped",
            ],
        },
        "retrieval": {
            "merged": {
                **recall_at(0.171, 0.301, 0.437),
                "new_to_user": recall_at(0.021, 0.064, 0.149),
            },
            "channels": {
                "popular": channel(
                    (0.081, 0.135, 0.220), (0.017, 0.049, 0.107), 241, 0.011, 0.003, 200.0
                ),
                "repurchase": channel(
                    (0.161, 0.276, 0.397), (0.0, 0.0, 0.0), 1_318, 0.078, 0.41, 163.2
                ),
                "item_cf": channel(
                    (0.102, 0.201, 0.317), (0.014, 0.046, 0.110), 204, 0.010, 0.27, 200.0
                ),
                "swing": channel(
                    (0.094, 0.183, 0.288), (0.013, 0.041, 0.098), 117, 0.006, 0.33, 200.0
                ),
                "two_tower": channel(
                    (0.121, 0.236, 0.365), (0.019, 0.056, 0.131), 398, 0.021, 0.22, 200.0
                ),
            },
            "overlap": {"channels": NAMES, "jaccard": JACCARD, "share": share},
        },
        "preranking": {
            "auc": 0.842,
            "gauc": 0.791,
            "hit": {"10": 0.48, "20": 0.69, "50": 0.91, "100": 0.975, "150": 0.994},
            "consistency": consistency(),
        },
        "ranking": {
            "lr": ranker(0.821, 0.768, 0.1642, 1.032, 0.25),
            "mlp": ranker(0.851, 0.799, 0.1561, 0.984, 0.08),
            "din": ranker(0.858, 0.806, 0.1539, 1.011, 0.05),
        },
        "d_category": d_category(),
        "cascade": {
            **quality(0.183, 0.264, 3.91, 0.672, 0.411, 0.061),
            "new_to_user": quality(0.0243, 0.021, 0.47, 0.146, 0.052, 0.043),
            "latency_ms": {"p50": 7.9, "p99": 18.4},
            "stage_ms": {
                "popular": 0.05,
                "repurchase": 0.21,
                "item_cf": 0.34,
                "swing": 0.31,
                "two_tower": 1.12,
                "retrieval": 0.42,
                "preranking": 0.88,
                "ranking": 3.71,
                "value": 0.07,
                "reranking": 0.36,
            },
            "funnel": {
                "retrieval": 196.4,
                "preranking": 100.0,
                "ranking": 100.0,
                "reranking": 10.0,
            },
        },
        "baselines": {
            "popular": {
                **quality(0.081, 0.121, 1.62, 0.431, 0.229, 0.0004),
                "new_to_user": quality(0.017, 0.015, 0.31, 0.107, 0.038, 0.001),
                "delta_se": {"recall@10": 0.0049, "ndcg@10": 0.006},
            },
            "repurchase": {
                **quality(0.161, 0.236, 3.44, 0.631, 0.378, 0.072),
                "delta_se": {"recall@10": 0.0031, "ndcg@10": 0.004},
            },
        },
        "training": {
            "two_tower": training(64.2, 9.4, 7.9, 2_000, 50),
            "vector": training(21.7, 0.31, 0.169, 1_200, 40),
            "din": training(118.5, 0.29, 0.155, 3_000, 75),
        },
        "seconds": {
            "ingest": 11.3,
            "popular": 0.4,
            "repurchase": 1.9,
            "item_cf": 6.2,
            "swing": 9.8,
            "two_tower": 64.2,
            "vector": 21.7,
            "din": 118.5,
            "evaluate": 27.4,
        },
        "left_out": {"some_part": "there is nothing to be said of it"},
    }


@pytest.fixture
def report() -> Report:
    return whole_report()


@pytest.fixture
def least(report) -> Report:
    """Only what every report has; it has no chart, and so takes no time to write."""
    return {key: report[key] for key in ("version", "config", "data")}
