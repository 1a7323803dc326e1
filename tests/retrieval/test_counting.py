"""What channels that count share: tuning, recounts, groups on show, refusals."""

import numpy as np
import pytest
import torch

from headrace.data import Ragged
from headrace.errors import ConfigError
from headrace.retrieval._counting import tune
from headrace.retrieval._shown import STALE_MS, Shown, find
from headrace.stages import Recountable
from headrace.training import Trainer
from tests.retrieval.counting import ask, config, fit


@pytest.mark.parametrize("kind", ["popular", "repurchase", "item_cf", "swing", "affinity"])
def test_a_recount_knows_the_validation_period_and_no_more(kind, tiny_samples, requests):
    retriever = fit(kind, tiny_samples)
    assert isinstance(retriever, Recountable)
    again = retriever.recount(tiny_samples)
    known, late = retriever.arrays(), again.arrays()
    assert known.keys() == late.keys()
    assert any(not torch.equal(known[n], late[n]) for n in known)
    for name in known.keys() & {"half_life_days", "mix", "tau_days", "repeat_power", "type_mask"}:
        assert torch.equal(known[name], late[name])
    assert len(ask(again, requests)) > 0


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("popular", {"context": "shop"}, "context: no context feature 'shop'; known: hour, store"),
        ("popular", {"context": "hour"}, "context: 'hour' comes from the time; name a column"),
        (
            "repurchase",
            {"history": "liftime"},
            "history: no sequence 'liftime'; did you mean 'lifetime'?",
        ),
        (
            "item_cf",
            {"history": "liftime"},
            "history: no sequence 'liftime'; did you mean 'lifetime'?",
        ),
        ("swing", {"skip": "histori"}, "skip: no sequence 'histori'; did you mean 'history'?"),
        ("affinity", {"attributes": [["colour"]]}, "attributes: no item feature 'colour'; known: "),
    ],
)
def test_names_that_do_not_exist_are_refused(kind, settings, said, tiny_samples):
    with pytest.raises(ConfigError) as error:
        config(kind, **settings).build(tiny_samples.space)
    assert str(error.value).startswith(said)


def test_popular_has_one_kind_of_list():
    with pytest.raises(ValueError, match="context and on_show: choose one"):
        config("popular", context="store", on_show=True)


def test_an_event_type_that_does_not_exist_is_refused(tiny_samples):
    with pytest.raises(Exception, match="no event type 'like'; the log has click, buy"):
        fit("item_cf", tiny_samples, events=["like"])


def test_tuning_takes_the_setting_that_recalls_most(tiny_samples):
    built = {
        d: config("popular", half_life_days=[d])
        .build(tiny_samples.space)
        .fit(tiny_samples, "p", Trainer())
        for d in (5.0, 50.0)
    }

    class Nothing:
        def retrieve(self, requests, quota_B):
            return ask(built[5.0], requests, 0)

    makers = {"nothing": Nothing(), "something": built[50.0], "same": built[50.0]}
    assert tune(tiny_samples, list(makers), makers.__getitem__, new=False) == "something"
    assert tune(tiny_samples, list(makers), makers.__getitem__, new=True) == "something"


def test_groups_that_are_over_are_forgotten(tiny_samples):
    """In the tiny shop every request has an exposure group of its own."""
    until_ms = tiny_samples.split.valid_ms
    shown = Shown.alive(tiny_samples, until_ms)
    log = tiny_samples.log
    time_of = dict(
        zip(
            np.asarray(log.request("group")).tolist(),
            np.asarray(log.request("time_ms")).tolist(),
            strict=True,
        )
    )
    alive = {g for g, t in time_of.items() if t >= until_ms - STALE_MS}
    assert set(shown.group.tolist()) == alive
    offsets, item = log.exposure("offsets"), log.exposure("item")
    g = int(shown.group[7])
    assert (
        shown.item[shown.offsets[7] : shown.offsets[8]].tolist()
        == item[offsets[g] : offsets[g + 1]].tolist()
    )
    few = shown.keep(shown.item < 10)
    assert (few.item < 10).all()
    assert few.offsets[-1] == len(few.item)


def test_find():
    assert find(np.array([3, 4, 9, 0]), np.array([0, 4, 7]), default=-1).tolist() == [-1, 1, -1, 0]
    assert find(np.array([3]), np.array([], np.int64), default=0).tolist() == [0]


def test_no_requests_no_answers(tiny_samples, requests):
    none = requests.take(torch.zeros(0, dtype=torch.int64))
    for kind in ("popular", "repurchase", "item_cf", "swing", "affinity"):
        found = fit(kind, tiny_samples).retrieve(none, torch.zeros(0, dtype=torch.int64))
        assert len(found) == 0
        assert isinstance(found.item_id, Ragged)
