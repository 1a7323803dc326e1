from dataclasses import replace

import pytest
import torch

from headrace.config import Kinds
from headrace.errors import BundleError, ConfigError
from headrace.ops.graph_search import Effort
from headrace.retrieval._attention import AttentionScorer
from headrace.retrieval._effort import EffortConfig
from headrace.retrieval._objective import Adversary, Negatives, Objective
from headrace.retrieval._positives import Popularity, positive_counts
from headrace.retrieval._ranker import RankerScorer
from headrace.retrieval._searched import Searchable
from headrace.retrieval.foil import Foil, candidates
from headrace.training import Trainer, Training
from tests import tiny
from tests.learning import overfit
from tests.retrieval.test_split import LIFELONG, SMALL

DIN = Kinds("headrace.ranking").find("din").Config


def settings(**more):
    return Foil.Config(
        **{
            "scorer": AttentionScorer.Config(**SMALL),
            "negatives": Negatives(in_batch=16, uniform=16),
            "training": Training(epochs=1, learning_rate=0.01, table_learning_rate=0.1),
            "judge_at": 10,
            **more,
        }
    )


KINDS = {
    "lifelong": {
        "scorer": AttentionScorer.Config(**SMALL, lifelong=LIFELONG),
        "adversary": Adversary(),
        "popularity": Popularity(weight=0.5),
        "skip": "lifetime",
    },
    "bf16": {"precision": "bf16"},
    "ranker": {"scorer": RankerScorer.Config(ranker=DIN())},
}


@pytest.fixture(scope="module", params=KINDS, ids=str)
def fitted(request, tiny_samples):
    channel = settings(**KINDS[request.param]).build(tiny_samples.space)
    return channel, channel.fit(tiny_samples, "foil", Trainer())


@pytest.fixture(scope="module")
def plain(tiny_samples):
    return settings().build(tiny_samples.space).fit(tiny_samples, "foil", Trainer())


def ask(number, requests):
    return torch.full((len(requests),), number)


class TestEveryKind:
    def test_restores_bit_for_bit(self, fitted, requests, tiny_samples):
        channel, retriever = fitted
        again = channel.restore(dict(retriever.arrays()), tiny_samples.space)
        first, second = (r.retrieve(requests, ask(20, requests)) for r in (retriever, again))
        assert len(first)
        assert torch.equal(first.item_id.values, second.item_id.values)
        assert torch.equal(first.scores["score"], second.scores["score"])

    def test_a_small_catalogue_is_searched_whole(self, fitted, requests):
        _, retriever = fitted
        best, found = retriever.exhaustive(requests, 12), retriever.search(requests, 12)
        assert best.offsets.tolist() == found.offsets.tolist()
        assert best.score == pytest.approx(found.score, rel=1e-2, abs=1e-2)
        assert best.num_scored.tolist() == [tiny.ITEMS + 1] * len(requests)
        assert (found.num_scored <= tiny.ITEMS + 1).all()

    def test_nothing_excluded_and_nothing_skipped_is_found(self, fitted, requests):
        channel, retriever = fitted
        first = retriever.retrieve(requests, ask(10, requests)).item_id
        asked = replace(requests, exclude=first)
        for found in (retriever.search(asked, 100), retriever.exhaustive(asked, 100)):
            item = candidates(found).item_id
            assert len(item.values)
            assert not item.within(first).any()
            if channel.config.skip:
                assert not item.within(requests.ragged("lifetime.item")).any()


class TestSearched:
    def test_items_of_a_log_that_grew_are_linked_in(self, plain, tiny_samples, requests, tmp_path):
        raw, space = tiny.raw_log(), tiny_samples.space
        raw = replace(raw, items=tiny.raw_log(items=66).items)
        grown = type(space).over(space.schema, space.encoders, tiny.write(tmp_path, raw))
        again = settings().build(grown).restore(plain.arrays(), grown)
        size = len(space.catalogue)
        assert torch.equal(again.item_vectors[:size], plain.item_vectors)
        found = again.retrieve(requests, ask(100, requests)).item_id
        assert found.lengths.tolist() == [len(grown.catalogue) - 1] * len(requests)

    def test_withdrawn_items_are_not_found(self, plain, requests):
        available_I = plain.catalogue.available_I.clone()
        available_I[5:] = False
        few = replace(plain.catalogue, available_I=available_I)
        for found in (few.search(requests, 50, plain.effort), few.exhaustive(requests, 50)):
            assert set(found.item.tolist()) == {1, 2, 3, 4}
        none = replace(plain.catalogue, available_I=torch.zeros_like(available_I))
        assert len(none.search(requests, 50, plain.effort).item) == 0
        assert len(none.exhaustive(requests, 50).item) == 0

    def test_scores_that_are_no_numbers_are_never_found(self, plain, requests):
        row_IX = plain.catalogue.row_IX.clone()
        row_IX[7] = torch.nan
        broken = replace(plain.catalogue, row_IX=row_IX)
        for found in (broken.search(requests, 99, plain.effort), broken.exhaustive(requests, 99)):
            assert 7 not in found.item.tolist()
            assert len(found.item) == (tiny.ITEMS - 1) * len(requests)

    def test_it_enters_at_the_newest_events(self, plain, requests, tiny_samples):
        arrays, item = dict(plain.arrays()), requests.ragged("history.item")
        seeds, none = (
            settings(seeds=n).build(tiny_samples.space).restore(arrays, tiny_samples.space)
            for n in (2, 0)
        )
        assert none.seeds(requests) is None
        for b in range(len(requests)):
            assert torch.equal(seeds.seeds(requests)[b], item[b][-2:])

    def test_nobody_asks(self, plain, requests):
        nobody = requests.take(torch.zeros(0, dtype=torch.int64))
        assert len(plain.retrieve(nobody, torch.zeros(0, dtype=torch.int64))) == 0
        assert len(plain.exhaustive(nobody, 5).item) == 0

    def test_recount_moves_popularity_and_nothing_else(self, tiny_samples):
        channel = settings(popularity=Popularity()).build(tiny_samples.space)
        first = channel.fit(tiny_samples, "foil", Trainer())
        second = first.recount(tiny_samples)
        assert not torch.equal(first.catalogue.bonus_I, second.catalogue.bonus_I)
        assert first.catalogue.graph is second.catalogue.graph


class TestBundle:
    def test_it_keeps_the_effort_that_a_tuner_found(self, plain, tiny_samples):
        tuned = plain.with_effort(Effort((7, 5), (2, 1), "served", 0.1, 2.0))
        again = settings().build(tiny_samples.space).restore(tuned.arrays(), tiny_samples.space)
        assert again.effort == tuned.effort

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("rows", lambda x: x[:-3], "heights of 58, 61, 61"),
            ("rows", lambda x: x[:, :-1], "not those of the weights"),
            ("rows", lambda x: x.bfloat16(), "not those of the weights"),
            ("popularity", lambda x: x[1:], "heights of 61, 60, 61"),
            ("vectors", lambda x: x.flip(0), "not those of the weights"),
            ("vectors", lambda x: x[:50], "vectors of 50"),
            ("graph.neighbours.0", lambda x: x[:-1], "graph"),
            ("net.towers.item_tower.0.weight", lambda x: -x, "not those of the weights"),
            ("net.towers.item_tower.0.weight", lambda x: x[:, 1:], "do not fit the settings"),
        ],
    )
    def test_parts_of_different_versions_are_refused(
        self, name, change, message, plain, tiny_samples
    ):
        arrays = dict(plain.arrays())
        arrays[name] = change(arrays[name])
        with pytest.raises(BundleError, match=message) as error:
            settings().build(tiny_samples.space).restore(arrays, tiny_samples.space)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", ["rows", "vectors", "popularity", "heights", "effort.hops"])
    def test_a_missing_array_is_named(self, name, plain, tiny_samples):
        arrays = {n: a for n, a in plain.arrays().items() if n != name}
        with pytest.raises(BundleError, match=f"lacks '{name.split('.')[-1]}'; train again"):
            settings().build(tiny_samples.space).restore(arrays, tiny_samples.space)

    def test_a_graph_of_other_vectors_is_refused(self, plain, tiny_samples):
        other = settings(training=Training(seed=9, learning_rate=0.1)).build(tiny_samples.space)
        graph = {n: a for n, a in other.fit(tiny_samples, "foil", Trainer()).arrays().items()}
        arrays = {n: graph[n] if n.startswith("graph.") else a for n, a in plain.arrays().items()}
        with pytest.raises(BundleError):
            settings().build(tiny_samples.space).restore(arrays, tiny_samples.space)


class TestObjective:
    def objective(self, samples, adversary=None, weights=None, **scorer):
        torch.manual_seed(0)
        made = AttentionScorer.Config(**{**SMALL, **scorer}).build(samples.space)
        negatives = Negatives(in_batch=16, uniform=16)
        return Objective(made, negatives, adversary, weights or {}, 1.0, positive_counts(samples))

    @pytest.mark.parametrize("adversary", [None, Adversary()])
    def test_overfits_a_tiny_set(self, adversary, tiny_samples):
        objective = self.objective(tiny_samples, adversary)
        batch = tiny_samples.positives_batch(tiny_samples.requests("train")[-6:], seed=1, pool=16)
        losses = overfit(objective, lambda: objective.loss(batch), steps=60)
        assert losses[-1] < 0.2 * losses[0]

    def test_lists_move_more_the_further_the_adversary_steps(self, tiny_samples):
        batch = tiny_samples.positives_batch(tiny_samples.requests("train")[-20:], seed=1, pool=16)
        apart = []
        for epsilon in (0.0, 0.01, 0.1, 1.0):
            objective = self.objective(tiny_samples, Adversary(epsilon=epsilon))
            torch.manual_seed(1)
            apart.append(objective.loss(batch)["adversarial"].item())
        assert apart[0] == pytest.approx(0, abs=1e-6)
        assert apart == sorted(apart)
        assert apart[3] > 10 * apart[1]

    def test_the_side_that_is_stopped_gets_no_gradient(self, tiny_samples):
        """All three variants have one value; gradients of the two one-sided add up to the whole."""
        batch = tiny_samples.positives_batch(tiny_samples.requests("train")[-20:], seed=1, pool=16)
        value, gradient = {}, {}
        for stop in ("clean", "perturbed", "none"):
            objective = self.objective(tiny_samples, Adversary(epsilon=0.3, stop=stop))
            torch.manual_seed(1)
            value[stop] = objective.loss(batch)["adversarial"]
            (gradient[stop],) = torch.autograd.grad(value[stop], objective.scorer.item.weight)
        assert value["clean"] == value["perturbed"] == value["none"]
        both = gradient["clean"] + gradient["perturbed"]
        torch.testing.assert_close(both, gradient["none"], rtol=1e-3, atol=1e-5)

    def test_types_have_weights(self, tiny_log):
        samples = tiny.samples(tiny_log, target=("click", "buy"))
        batch = samples.positives_batch(samples.requests("train")[-40:], seed=1, pool=16)
        bought_N = batch.labels["buy"] > 0
        assert 0 < int(bought_N.sum()) < len(bought_N)
        assert (batch.labels["click"] == 1).all()  # there is no buy without a click

        def loss(batch, weights):
            objective = self.objective(samples, weights=weights)
            torch.manual_seed(1)
            return objective.loss(batch)["softmax"].item()

        weighted = replace(batch, weight=torch.where(bought_N, 3.0, 0.5))
        assert loss(batch, {"buy": 3.0, "click": 0.5}) == pytest.approx(loss(weighted, {}))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"scorer": RankerScorer.Config(ranker=DIN()), "adversary": Adversary()},
            "a ranker is trained without",
        ),
        ({"type_weights": {"buy": -1.0}}, "type_weights: want numbers of at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(more, message):
    with pytest.raises(ValueError, match=message):
        settings(**more)


def test_negatives_and_efforts_cannot_be_nothing():
    with pytest.raises(ValueError, match="needs negatives"):
        Negatives(in_batch=0, uniform=0)
    with pytest.raises(ValueError, match="hops: want positive numbers"):
        EffortConfig(hops=(1, 0))


def test_names_must_exist(tiny_samples):
    with pytest.raises(ConfigError, match="skip: no sequence 'lifetimes'; did you mean 'lifetime'"):
        settings(skip="lifetimes").build(tiny_samples.space)
    weighted = settings(type_weights={"click": 0.5}).build(tiny_samples.space)
    with pytest.raises(ConfigError, match="type_weights: 'click' is no target; known: buy"):
        weighted.fit(tiny_samples, "foil", Trainer())


def test_a_plan_with_less_searches_less_hard(tiny_samples, monkeypatch):
    """On a catalogue as tiny as this all is scored anyway; what matters is what is asked for."""
    channel = settings(effort_quota=40).build(tiny_samples.space)
    retriever = channel.fit(tiny_samples, "foil", Trainer())
    requests = tiny_samples.features(tiny_samples.requests("test")[:4])
    asked, search = {}, Searchable.search

    def spy(self, *arguments):
        asked[arguments[1]] = arguments[4].tolist()
        return search(self, *arguments)

    monkeypatch.setattr(Searchable, "search", spy)
    found = retriever.retrieve(requests, torch.tensor([80, 40, 10, 0]))
    assert asked == {80: [1], 40: [1], 10: [0.25], 0: [0]}
    assert found.item_id.lengths[2:].tolist() == [10, 0]


def test_a_plan_may_ask_for_as_many_by_less_effort(tiny_samples, monkeypatch):
    retriever = settings().build(tiny_samples.space).fit(tiny_samples, "foil", Trainer())
    requests = tiny_samples.features(tiny_samples.requests("test")[:3])
    asked, search = [], Searchable.search

    def spy(self, *arguments):
        asked.append(arguments[4].tolist())
        return search(self, *arguments)

    monkeypatch.setattr(Searchable, "search", spy)
    effort_B = torch.tensor([1.0, 0.25, 0.5], dtype=torch.float64)
    found = retriever.retrieve_at(requests, torch.full((3,), 10), effort_B)
    assert asked == [[1, 0.25, 0.5]] and found.item_id.lengths.tolist() == [10, 10, 10]
