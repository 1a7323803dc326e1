"""Plans that name another ranker, skip stages or search less hard are obeyed, one by one."""

from dataclasses import replace

import pytest
import torch

from headrace.calibration import Calibration
from headrace.errors import ConfigError
from headrace.reranking.mmr import Mmr
from headrace.serving.blend import Blend
from headrace.serving.cascade import Tier
from headrace.serving.merge import Merge
from headrace.serving.service import Service
from headrace.stages import Plan
from tests.serving import shop
from tests.serving.test_two_step import Steps

FULL = {
    **shop.QUOTA,
    "preranker": 1,
    "ranking": 1,
    "ranking.light": 0,
    "ranking.odd": 0,
    "reranker": 1,
    "effort.own": 100,
}
PLANS = (  # one a request
    FULL,
    {**FULL, "ranking.light": 1},
    {**FULL, "preranker": 0, "ranking": 0, "reranker": 0},
    {**FULL, "preranker": 0, "ranking.odd": 1, "reranker": 0},
    {**FULL, "ranking.light": 1, "preranking": 5, "effort.own": 25},
    {**FULL, "reranker": 0, "effort.own": 50},
)


class Light(shop.ByItem):
    """Prefers high numbers, and remembers whom it was asked about."""

    def __init__(self):
        self.users = []

    def score(self, requests, candidates):
        self.users += requests.user.tolist()
        return 1 - super().score(requests, candidates)


class Odd(shop.ByEverything):
    """Reads a feature that neither pre-ranker nor ranker reads."""

    reads_cross = ("exposed",)

    def score(self, requests, candidates):
        assert set(candidates.features) >= {"exposed"}
        odd = (candidates.item_id.values % 2).float() * 0.5
        return torch.stack([odd, odd + 0.01 * candidates.features["exposed"]], 1)


class Lazy(shop.Own):
    """Finds for a share of its effort what is at the end of its list."""

    def __init__(self):
        self.asked = []

    def retrieve_at(self, requests, quota_B, effort_B):
        self.asked.append(effort_B.tolist())
        return super().retrieve(requests, (quota_B * effort_B).ceil().long())


def dimensioned(cascade):
    light, same = Light(), Calibration.identity(2)
    tiers = {
        "light": Tier(light, same, Blend.identity(2)),
        "odd": Tier(Odd(), same, Blend(torch.tensor([[0.5, 0.1, -1.0]] * 2, dtype=torch.float64))),
    }
    mmr = Mmr.Config(theta=0.3, max_per_category=2, worth=0.05).build(cascade.catalogue)
    channels = {**cascade.channels, "own": Lazy()}
    return replace(cascade, tiers=tiers, reranker=mmr, channels=channels), light


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    cascade, requests, store = shop.asked(tmp_path_factory.mktemp("shop"))
    return *dimensioned(cascade), requests, store


def together(plans):
    return Plan({name: torch.tensor([plan[name] for plan in plans]) for name in plans[0]})


def test_in_a_group_as_alone(asked):
    cascade, _, requests, store = asked
    group = cascade.run(requests, together(PLANS), store)
    for b, plan in enumerate(PLANS):
        one = cascade.run(requests.take(torch.tensor([b])), together([plan]), store)
        for stage, left in one.after.items():
            rows = group.after[stage].take_rows(torch.tensor([b]))
            assert torch.equal(rows.item_id.values, left.item_id.values), (b, stage)
            for name, score in left.scores.items():
                assert torch.allclose(rows.scores[name], score, rtol=1e-6), (b, stage, name)


def test_a_tier_ranks_those_whose_plan_names_it_and_no_others(asked):
    cascade, light, requests, store = asked
    light.users.clear()
    trace = cascade.run(requests, together(PLANS), store)
    wanted = torch.tensor([plan["ranking.light"] > 0 for plan in PLANS])
    assert light.users == requests.user[wanted].tolist()
    assert {"ranking", "ranking.light", "ranking.odd"} <= set(trace.spent_us)
    ranked = trace.after["ranking"]
    rows = torch.nonzero(wanted)[:, 0]
    part = ranked.take_rows(rows)
    assert torch.allclose(part.scores["ranking"], 1 - shop.ByItem().score(requests, part))


def test_without_pre_ranking_the_merge_has_the_word_and_nothing_is_made_for_it(asked):
    cascade, _, requests, store = asked
    careful = replace(cascade, preranker=Steps(2))
    plans = [{**FULL, "preranker": 0, "preranking": 5, "ranking": 0}] * len(requests)
    trace = careful.run(requests, together(plans), store)
    merged = trace.after["retrieval"]
    word_NT = merged.scores["retrieval"].expand(-1, len(shop.TYPES))
    assert torch.equal(merged.scores["preranking"], word_NT)
    assert not careful.preranker.asked and "features" not in trace.spent_us
    plans[0] = {**FULL, "preranking": 5, "ranking": 0}
    mixed = careful.run(requests, together(plans), store)
    assert careful.preranker.asked == [[2]]  # left by its coarse step, of the one that wants it
    lengths = mixed.after["retrieval"].item_id.lengths
    assert lengths[0] == 2 and torch.equal(lengths[1:], merged.item_id.lengths[1:])


def test_without_re_ranking_the_ranker_has_the_last_word_but_rules_hold(asked):
    cascade, _, requests, store = asked
    plans = [{**FULL, "reranker": 0, "preranking": 20}] * len(requests)
    trace = cascade.run(requests, together(plans), store)
    ranked, category_I = trace.after["ranking"], cascade.catalogue.category
    for b in range(len(requests)):
        value = ranked.take_rows(torch.tensor([b])).scores["value"][:, 0]
        items = ranked.item_id[b][value.argsort(descending=True, stable=True)].tolist()
        had, want = {}, []
        for item in items:
            group = int(category_I[item])
            if had.get(group, 0) < 2 and len(want) < FULL["reranking"]:
                had[group] = had.get(group, 0) + 1
                want.append(item)
        assert trace.slate.item_id[b].tolist() == want
    mixed = cascade.run(requests, together([{**p, "reranker": 1} for p in plans]), store)
    assert mixed.slate.item_id.values.tolist() != trace.slate.item_id.values.tolist()


def test_a_channel_is_told_its_share_of_effort(asked):
    cascade, _, requests, store = asked
    own = cascade.channels["own"]
    own.asked.clear()
    cascade.run(requests, together(PLANS), store)
    assert own.asked == [[1.0, 1.0, 1.0, 1.0, 0.25, 0.5]]
    own.asked.clear()
    plain = {k: n for k, n in FULL.items() if not k.startswith("effort")}
    cascade.run(requests, Plan.constant(plain, len(requests)), store)
    assert own.asked == []  # a plan that does not say means all of it


def test_what_may_be_said_is_told(asked, tmp_path):
    cascade, _, _, _ = asked
    optional = ("preranker", "ranking", "reranker", "ranking.light", "ranking.odd", "effort.own")
    assert cascade.options == optional
    assert shop.cascade(shop.write(tmp_path)).options == (
        "preranker",
        "ranking",
    )  # `top` is the top
    unfitted = replace(cascade, merge=Merge.interleave(2))
    assert "preranker" not in unfitted.options  # turns are no probabilities


def test_a_tier_that_is_not_there_is_refused(asked):
    cascade, _, requests, store = asked
    plan = Plan.constant({**shop.QUOTA, "ranking": 1, "ranking.lihgt": 1}, len(requests))
    with pytest.raises(ConfigError, match="no tier 'lihgt' in the bundle; did you mean 'light'"):
        cascade.run(requests, plan, store)


def test_a_server_hands_all_dimensions_on(tmp_path):
    made = shop.service(shop.write(tmp_path))
    cascade, light = dimensioned(made.shelf.cascade)

    class Always:
        reads_sequences = ()

        def plan(self, requests):
            return Plan.constant({**FULL, "ranking.light": 1, "reranker": 0}, len(requests))

        def observe(self, trace):
            self.trace = trace

    allocator = Always()
    service = Service(
        cascade, allocator, made.log, made.store, made.settings, "v1", tasks=shop.TYPES
    )
    slate = service.recommend(user="u1", k=3)
    assert len(slate.items) == 3 and light.users
    quota = allocator.trace.plan.quota
    assert int(quota["ranking.light"][0]) == 1 and int(quota["reranker"][0]) == 0
    assert int(quota["effort.own"][0]) == 100  # not widened like a channel's quota
