"""Days since the last event in a category, by hand; what two rankers make of it; who is left out."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from headrace.calibration import Calibration
from headrace.data import Candidates, Ragged
from headrace.errors import ConfigError
from headrace.evaluation import d_category as part
from headrace.log import RawLog
from headrace.pipeline.learning import Predicted
from headrace.samples import Drawn
from tests import tiny

NEVER, FIRST_DAY, A_DAY, THREE, A_WEEK, TWO_WEEKS, A_MONTH, A_QUARTER = range(8)
SCHEMA = {"features": {"item": {"of": "item", "encode": "id"}, "category": {"of": "item"}}}
APPLE, PEAR, SOAP, LAMP, KITE = range(1, 6)  # rows of the log, in the order of their names
#        user, item, day; ann asks on day 60, bob on day 62
EVENTS = [
    ("ann", "a-apple", 10.0),
    ("ann", "b-pear", 40.0),
    ("ann", "c-soap", 58.0),
    ("ann", "a-apple", 60.0),  # what the request took: not before it
    ("ann", "e-kite", 61.0),  # later
    ("bob", "d-lamp", 61.5),
    ("bob", "b-pear", 62.0),
    ("bob", "d-lamp", 70.0),
]
ITEMS = {"a-apple": "fruit", "b-pear": "fruit", "c-soap": "bath", "d-lamp": "home", "e-kite": "toy"}


def shop(path, categories):
    events = pl.DataFrame(EVENTS, schema=["user", "item", "day"], orient="row")
    time_ms = (tiny.START_MS + events["day"] * tiny.DAY_MS).cast(pl.Int64).alias("time_ms")
    items = pl.DataFrame({"item": list(ITEMS), "category": categories})
    raw = RawLog(events=events.select("user", "item", time_ms), items=items)
    return tiny.samples(
        tiny.write(path, raw), schema=SCHEMA, tasks=("event",), test_days=20, valid_days=5
    )


@pytest.fixture
def samples(tmp_path):
    return shop(tmp_path, list(ITEMS.values()))


@pytest.fixture
def asked(samples):
    """Ann's request of day 60 and Bob's of day 62."""
    days = (np.asarray(samples.log.request("time_ms")) - tiny.START_MS) / tiny.DAY_MS
    return np.array([int(np.flatnonzero(days == day)[0]) for day in (60, 62)])


def rows(*items):
    return Ragged.of([torch.tensor(row) for row in items])


def test_days_are_counted_from_the_last_event_strictly_before_the_request(samples, asked):
    assert samples.log.items["item"][1:].to_list() == list(ITEMS)
    days = part.days_since(samples, asked, rows([APPLE, PEAR, SOAP, LAMP, KITE], [LAMP, APPLE]))
    # the pear of day 40 is of the apple's category; the kite was taken after Ann's request
    assert days.tolist() == [20, 20, 2, -1, -1, 0.5, -1]


def test_bins_begin_where_they_say():
    days = np.array([-1, 0, 0.99, 1, 2.9, 3, 13.99, 14, 29, 30, 90, 4000])
    assert part.bins(days).tolist() == [0, 1, 1, 2, 2, 3, 4, 5, 5, 6, 7, 7]


def test_two_rankers_side_by_side(samples, asked):
    truth = rows([APPLE], [PEAR])
    best = {"ranking": rows([APPLE, SOAP], [PEAR, LAMP]), "lr": rows([SOAP, KITE], [LAMP, SOAP])}
    # exposures: Ann's apple (+), pear (-), soap (-), Bob's pear (+), soap (-)
    drawn = Drawn(asked, rows([APPLE, PEAR, SOAP], [PEAR, SOAP]), {}, *[torch.ones(5)] * 3)
    label_NT = torch.tensor([[1.0], [0.0], [0.0], [1.0], [0.0]])
    user_N, weight_N = torch.tensor([1, 1, 1, 2, 2]), torch.tensor([1.0, 2.0, 2.0, 1.0, 2.0])
    good, bad = (torch.tensor(p).unsqueeze(1) for p in ([0.9, 0.1, 0.2, 0.7, 0.3], [0.5] * 5))
    predicted = {
        "mlp": Predicted(bad, label_NT, user_N, weight_N),
        "ranking": Predicted(good, label_NT, user_N, weight_N),
        "lr": Predicted(1 - good, label_NT, user_N, weight_N),
    }
    got = part.d_category(samples, part.Asked(asked, truth, best), [drawn], predicted)
    assert list(got["models"]) == ["ranking", "lr"]
    assert got["exposures"] == pytest.approx([3 / 8, 0, 2 / 8, 0, 0, 3 / 8, 0, 0])
    assert got["positives"] == [1, 0, 0, 0, 0, 1, 0, 0]

    ours, theirs = got["models"]["ranking"], got["models"]["lr"]
    assert ours["shown"] == {  # days 20, 2, never and 0.5
        "items": 4,
        "share": [0.25, 0.25, 0.25, 0, 0, 0.25, 0, 0],
        "known": 0.75,
        "days": pytest.approx(22.5 / 3),
    }
    assert ours["taken"]["items"] == 2
    assert ours["taken"]["known"] == 0.5
    assert ours["taken"]["days"] == 20
    assert theirs["shown"]["share"] == [0.5, 0.25, 0.25, 0, 0, 0, 0, 0]
    assert theirs["taken"]["items"] == 0
    assert np.isnan(theirs["taken"]["share"]).all() and np.isnan(theirs["taken"]["known"])
    assert [ours["auc"][g] for g in (NEVER, TWO_WEEKS)] == [1, 1]
    assert [theirs["auc"][g] for g in (NEVER, TWO_WEEKS)] == [0, 0]
    assert np.isnan(ours["auc"][A_DAY]) and ours["auc"][FIRST_DAY] is None  # one class, nothing
    assert ours["gauc"][TWO_WEEKS] == 1


class Bundle:
    """Rankers that score by a table of items."""

    def __init__(self, *names):
        self.names = ("ranking", *names)

    def rankers(self):
        return dict.fromkeys(self.names, "lr")

    def ranker(self, name, space):
        del space
        return f"model {name}"

    def calibration(self, name):
        return f"calibration of {name}"


def test_the_first_other_ranker_is_compared_unless_one_is_named(samples):
    pair, why = part.rivals(Bundle("lr", "mlp"), samples, None)
    assert (list(pair), why) == (["ranking", "lr"], "")
    pair, why = part.rivals(Bundle("lr", "mlp"), samples, "mlp")
    assert (list(pair), why) == (["ranking", "mlp"], "")
    assert pair["mlp"].calibration == "calibration of mlp"


def test_an_unknown_ranker_is_one_clear_line(samples):
    wanted = r"--against mpl: no ranker of that name under \[compare\]; did you mean 'mlp'\?"
    with pytest.raises(ConfigError, match=wanted):
        part.rivals(Bundle("lr", "mlp"), samples, "mpl")


def test_one_ranker_or_one_category_leaves_it_out_and_says_so(samples, tmp_path):
    assert part.rivals(Bundle(), samples, None) == (
        {},
        "there is one ranker; name another under [compare] and train again",
    )
    pair, why = part.rivals(Bundle("lr"), shop(tmp_path / "one", [None] * 5), None)
    assert not pair
    assert why.startswith("all items are of one category")


def test_the_ten_best_are_by_value_of_calibrated_predictions():
    score_NT = torch.cat([torch.linspace(0.1, 0.9, 15), torch.tensor([0.2, 0.4])]).unsqueeze(1)
    model = SimpleNamespace(score=lambda requests, merged: score_NT)
    merged = Candidates(rows(range(1, 16), [3, 4]))
    cascade = SimpleNamespace(worth=lambda p_NT, merged: -p_NT[:, 0])  # dear ones are unlikely
    rival = part.Rival(model, Calibration.fit(score_NT, (score_NT > 0.5).float(), torch.ones(17)))
    best = rival.best(cascade, [None, None], merged)
    assert best.lengths.tolist() == [10, 2]
    assert set(best[0].tolist()) == set(range(1, 11))
    assert best[1].tolist() == [3, 4]
