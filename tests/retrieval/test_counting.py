"""Channels that count, on the tiny shop: what each counts, chooses and refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headrace.config import Kinds
from headrace.data import Ragged
from headrace.errors import ConfigError
from headrace.retrieval._counting import Recountable, tune
from headrace.retrieval._shown import STALE_MS, Shown, find
from headrace.samples.split import DAY_MS
from headrace.training import Trainer
from tests import tiny

KINDS = Kinds("headrace.retrieval")


def config(kind, **settings):
    return KINDS.find(kind).Config.model_validate({"kind": kind, **settings}, strict=False)


def fit(kind, samples, **settings):
    return config(kind, **settings).build(samples.space).fit(samples, kind, Trainer())


def ask(retriever, requests, quota=10):
    return retriever.retrieve(requests, torch.full((len(requests),), quota))


def events(samples, until_ms, kinds=("buy",)):
    """(user, item, time, request) of the events of some types before a time."""
    log = samples.log
    codes = [log.type_code(k) for k in kinds]
    columns = (log.event_user, log.event("item"), log.event("time_ms"), log.event("request"))
    kept = np.isin(log.event("type"), codes) & (np.asarray(log.event("time_ms")) < until_ms)
    return [
        tuple(int(x) for x in row)
        for row in zip(*(np.asarray(c)[kept] for c in columns), strict=True)
    ]


@pytest.fixture(scope="module")
def requests(tiny_samples):
    return tiny_samples.features(tiny_samples.requests("test")[:20])


# --- popular


def test_popular_counts_with_a_half_life(tiny_samples, requests):
    until_ms = tiny_samples.split.valid_ms
    found = ask(fit("popular", tiny_samples, half_life_days=[20]), requests, quota=tiny.ITEMS)
    want = np.zeros(tiny.ITEMS + 1)
    for _, item, time_ms, _ in events(tiny_samples, until_ms):
        want[item] += 0.5 ** ((until_ms - time_ms) / DAY_MS / 20)
    want /= want.sum()
    row = found.item_id[0].numpy()
    assert row.tolist() == np.argsort(-want, kind="stable")[: len(row)].tolist()
    torch.testing.assert_close(
        found.scores["score"][: len(row), 0].double(),
        torch.from_numpy(want[row]),
        rtol=1e-5,
        atol=0,
    )


def test_popular_by_store_is_drawn_to_the_common_list(tiny_samples, requests):
    common = ask(fit("popular", tiny_samples, half_life_days=[20]), requests).item_id
    own = ask(
        fit("popular", tiny_samples, half_life_days=[20], context="store", pull=0.01), requests
    ).item_id
    firm = ask(
        fit("popular", tiny_samples, half_life_days=[20], context="store", pull=1e9), requests
    ).item_id
    assert torch.equal(firm.values, common.values)
    store = requests.tensor("store")
    a, b = (int(torch.nonzero(store == s)[0]) for s in (1, 2))
    assert own[a].tolist() != own[b].tolist()
    counts = np.zeros((3, tiny.ITEMS + 1))
    codes = (
        tiny_samples.builder.requests(
            tiny_samples.asked(np.arange(tiny_samples.log.manifest.num_requests)),
            tiny_samples.store,
        )
        .tensor("store")
        .numpy()
    )
    until_ms = tiny_samples.split.valid_ms
    for _, item, time_ms, request in events(tiny_samples, until_ms):
        counts[codes[request], item] += 0.5 ** ((until_ms - time_ms) / DAY_MS / 20)
    assert own[a][:3].tolist() == np.argsort(-counts[1], kind="stable")[:3].tolist()


def test_popular_where_the_context_is_unknown_is_the_common_list(tiny_samples, requests):
    common = ask(fit("popular", tiny_samples, half_life_days=[20]), requests).item_id
    nowhere = replace(requests, features={**requests.features, "store": torch.zeros(20).long()})
    own = ask(fit("popular", tiny_samples, half_life_days=[20], context="store"), nowhere).item_id
    assert torch.equal(own.values, common.values)


def test_popular_on_show_returns_only_what_is_on_show(tiny_samples, requests):
    found = ask(fit("popular", tiny_samples, on_show=True), requests).item_id
    offsets, item = (tiny_samples.log.exposure(c) for c in ("offsets", "item"))
    assert len(found.values) > 0
    for b, g in enumerate(requests.group.tolist()):
        assert set(found[b].tolist()) <= set(item[offsets[g] : offsets[g + 1]].tolist())
    nowhere = replace(requests, group=torch.full((20,), -1))
    assert len(ask(fit("popular", tiny_samples, on_show=True), nowhere)) == 0


def test_popular_keeps_so_many(tiny_samples, requests):
    assert (ask(fit("popular", tiny_samples, keep=4), requests).item_id.lengths == 4).all()


# --- repurchase


def test_repurchase_sums_decays_of_own_events(tiny_samples, requests):
    found = ask(fit("repurchase", tiny_samples, tau_days=[15], repeat_power=[0]), requests)
    own = events(tiny_samples, tiny_samples.split.end_ms)
    for b in range(len(requests)):
        want = {}
        for user, item, time_ms, _ in own:
            now = int(requests.time_ms[b])
            if user == int(requests.user[b]) and time_ms < now:
                want[item] = want.get(item, 0) + np.exp((time_ms - now) / DAY_MS / 15)
        got = found.item_id[b].tolist()
        scores = found.scores["score"][found.item_id.row == b][:, 0].tolist()
        assert scores == pytest.approx(sorted(want.values(), reverse=True)[:10], rel=1e-4)
        assert scores == pytest.approx([want[i] for i in got], rel=1e-4)


def test_repurchase_reads_the_events_it_is_told_to(tiny_samples, requests):
    buys = ask(fit("repurchase", tiny_samples), requests, 50).item_id
    clicks = ask(fit("repurchase", tiny_samples, events=["click"]), requests, 50).item_id
    assert len(clicks.values) > len(buys.values)


def test_repurchase_finds_nothing_new_and_nothing_excluded(tiny_samples):
    rows, _ = tiny_samples.first_requests("test")
    requests = replace(tiny_samples.features(rows), exclude=tiny_samples.seen(rows))
    assert len(ask(fit("repurchase", tiny_samples), requests, 50)) == 0


def test_repeat_rates_of_items_raise_what_is_taken_again(tiny_samples):
    flat = fit("repurchase", tiny_samples, repeat_power=[0]).arrays()
    assert flat["repeat_power"] == 0
    rate = flat["rate"]
    pairs = [(u, i) for u, i, _, _ in events(tiny_samples, tiny_samples.split.valid_ms)]
    repeats, users = np.zeros(tiny.ITEMS + 1), np.zeros(tiny.ITEMS + 1)
    for _, item in set(pairs):
        users[item] += 1
    for _, item in pairs:
        repeats[item] += 1
    repeats -= users
    mean = repeats.sum() / users.sum()
    want = (repeats + 10 * mean) / (users + 10) / mean
    torch.testing.assert_close(rate.double(), torch.from_numpy(want), rtol=1e-5, atol=0)


# --- item_cf and swing


@pytest.mark.parametrize("kind", ["item_cf", "swing"])
@pytest.mark.parametrize("unit", ["user", "request"])
def test_neighbours_are_items_that_share_units(kind, unit, tiny_samples):
    arrays = fit(kind, tiny_samples, unit=unit).arrays()
    holders = {}
    for user, item, _, request in events(tiny_samples, tiny_samples.split.valid_ms):
        holders.setdefault(item, set()).add(user if unit == "user" else request)
    offsets, neighbour = arrays["offsets"].tolist(), arrays["neighbour"].tolist()
    assert len(neighbour) > 0
    for i in range(len(offsets) - 1):
        for j in neighbour[offsets[i] : offsets[i + 1]]:
            assert len(holders[i] & holders[j]) >= 2


def test_item_cf_without_fading_is_the_formula(tiny_samples):
    arrays = fit("item_cf", tiny_samples, together_days=None, least=1).arrays()
    lives = {}
    for user, item, _, _ in events(tiny_samples, tiny_samples.split.valid_ms):
        lives.setdefault(user, set()).add(item)
    offsets, neighbour = arrays["offsets"].tolist(), arrays["neighbour"].tolist()
    for i in (1, 5, 17):
        for k in range(offsets[i], offsets[i + 1]):
            j = neighbour[k]
            n = [sum(x in items for items in lives.values()) for x in (i, j)]
            shared = sum(1 / np.log1p(len(s)) for s in lives.values() if i in s and j in s)
            assert float(arrays["weight"][k]) == pytest.approx(
                shared / np.sqrt(n[0] * n[1]), rel=1e-4
            )


def test_swing_normalised_gives_each_seed_a_best_neighbour_of_1(tiny_samples):
    arrays = fit("swing", tiny_samples).arrays()
    plain = fit("swing", tiny_samples, normalise=False).arrays()
    first = arrays["offsets"][:-1][arrays["offsets"].diff() > 0]
    assert (arrays["weight"][first] == 1).all()
    assert torch.equal(arrays["neighbour"], plain["neighbour"])
    assert (plain["weight"][first] != 1).any()


@pytest.mark.parametrize("kind", ["item_cf", "swing"])
def test_only_the_newest_items_of_a_life_count(kind, tiny_samples):
    few = fit(kind, tiny_samples, max_items=3).arrays()["neighbour"]
    assert 0 < len(few) < len(fit(kind, tiny_samples).arrays()["neighbour"])


@pytest.mark.parametrize("kind", ["item_cf", "swing", "affinity"])
def test_what_another_channel_brings_back_is_skipped(kind, tiny_samples, requests):
    own = ask(fit(kind, tiny_samples, skip="lifetime"), requests, tiny.ITEMS).item_id
    whole = ask(fit(kind, tiny_samples), requests, tiny.ITEMS).item_id
    lifetime = requests.ragged("lifetime.item")
    for b in range(len(requests)):
        had = set(lifetime[b].tolist())
        assert own[b].tolist() == [i for i in whole[b].tolist() if i not in had]


# --- affinity


def test_affinity_knows_the_users_taste(tiny_samples):
    """Users of the tiny shop take items of one group of 15; kinds cut across popularity."""
    rows, _ = tiny_samples.first_requests("test")
    requests = tiny_samples.features(rows)
    liked = torch.tensor(
        [int(u) % 4 if u != "<unknown>" else -1 for u in tiny_samples.log.users["user"]]
    )
    item_group = torch.tensor(
        [int(i) % 4 if i != "<unknown>" else -1 for i in tiny_samples.log.items["item"]]
    )

    def share(kind, **settings):
        found = ask(fit(kind, tiny_samples, **settings), requests).item_id
        return (item_group[found.values] == found.spread(liked[requests.user])).float().mean()

    assert share("affinity", attributes=[["category"]]) > 2 * share("popular")


def test_affinity_crosses_attributes(tiny_samples, requests):
    crossed = fit("affinity", tiny_samples, attributes=[["category", "brand"], ["category"]])
    features = tiny_samples.space.catalogue.features
    pairs = set(zip(features["category"].tolist(), features["brand"].tolist(), strict=True))
    arrays = crossed.arrays()
    assert len(arrays["value.0"]) == sum(c > 0 and b > 0 for c, b in pairs)
    assert float(arrays["value_share.1"].sum()) == pytest.approx(1)
    assert len(ask(crossed, requests)) > 0


def test_affinity_raises_what_is_on_show(tiny_samples, requests):
    shown = fit("affinity", tiny_samples, on_show=True)
    assert float(shown.arrays()["lift"]) > 0  # the tiny shop's users take only what they are shown
    here = ask(shown, requests, 5).item_id
    nowhere = ask(shown, replace(requests, group=torch.full((20,), -1)), 5).item_id
    offsets, item = (tiny_samples.log.exposure(c) for c in ("offsets", "item"))

    def on_show(found):
        sets = [set(item[offsets[g] : offsets[g + 1]].tolist()) for g in requests.group.tolist()]
        return sum(len(set(found[b].tolist()) & sets[b]) for b in range(20))

    assert on_show(here) > on_show(nowhere)


def test_affinity_looks_at_its_pool_only(tiny_samples, requests):
    found = ask(fit("affinity", tiny_samples, pool=7), requests, 50).item_id
    assert (found.lengths == 7).all()


# --- shared


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
