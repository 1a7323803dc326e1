"""The checks of the method on the planted world W1: 4,096 items, a target near a late event."""

import pytest
import torch

from headrace.behavior import MappedLog
from headrace.features import FeatureBuilder, FeatureSpace
from headrace.log import write_log
from headrace.nn.history import HistoryEncoder
from headrace.ops.graph_search import Effort
from headrace.retrieval._attention import AttentionScorer
from headrace.retrieval._graph import ItemGraph
from headrace.retrieval._objective import Adversary, Negatives
from headrace.retrieval.foil import Foil, candidates
from headrace.samples import Samples, SamplesConfig
from headrace.samples.split import Split
from headrace.schema import Schema
from headrace.training import Trainer, Training
from headrace.world import World

MOST = 50
SCHEMA = {
    "features": {"item": {"of": "item", "encode": "id"}, "category": {"of": "item"}},
    "tables": {"item": {"dim": 16}},
    "sequences": {"history": {"length": 20}},
}
NET = {"hidden": (32, 16), "events": 20, "head_dim": 16}
PRODUCT = {"hidden": (), "heads": 0}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    world = World.Config.model_validate({"preset": "w1", "seed": 1, "people": {"users": 6_500}})
    log = write_log(tmp_path_factory.mktemp("w1") / "log", World(world).raw_log(), "w1")
    config = SamplesConfig(tasks=("view",), test_days=0.5, valid_days=0.25, train_days=0.5)
    split = Split.of(config, log)
    space = FeatureSpace.fit(Schema.model_validate(SCHEMA), log, split.valid_ms)
    return Samples(config, log, split, FeatureBuilder(space, log), MappedLog(log), 1)


class Trained:
    """A foil, and how well 300 users' targets are found in 50 items."""

    def __init__(self, samples, scorer, epsilon=0.0):
        settings = Foil.Config(
            scorer=AttentionScorer.Config(
                dim=16,
                user_hidden=(32,),
                item_hidden=(),
                encoder=HistoryEncoder.Config(dim=16, heads=2),
                **scorer,
            ),
            negatives=Negatives(in_batch=32, uniform=32),
            adversary=Adversary(epsilon=epsilon) if epsilon else None,
            graph=ItemGraph.Config(links=8),
            training=Training(epochs=1, table_learning_rate=0.1, learning_rate=0.003),
        )
        self.retriever = settings.build(samples.space).fit(samples, "foil", Trainer())
        rows = samples.requests("test")[:300]
        self.requests, self.truth = samples.features(rows), samples.truth(rows)
        self.best = candidates(self.retriever.exhaustive(self.requests, MOST)).item_id
        self.recall_all = self.recall(self.best)

    def recall(self, item):
        return float(self.truth.within(item).float().mean())

    def search(self, width, hops):
        """Items found, coverage of the exact top, and share of the catalogue that was scored."""
        found = self.retriever.with_effort(Effort((width,), (hops, 1))).search(self.requests, MOST)
        item = candidates(found).item_id
        coverage = float(item.within(self.best).float().mean())
        return item, coverage, float(found.num_scored.mean()) / 4096


@pytest.fixture(scope="module")
def attention(samples):
    return Trained(samples, NET)


def test_a_trained_scorer_finds_targets_and_the_graph_finds_what_it_likes(attention):
    assert attention.recall_all > 0.2  # chance is .012
    _, low, low_share = attention.search(10, 2)
    _, high, high_share = attention.search(100, 3)
    assert low_share < 0.17
    assert low > 0.5
    assert high_share < 0.45
    assert high > 0.98


def test_an_inner_product_loses_next_to_nothing(samples):
    product = Trained(samples, PRODUCT)
    item, coverage, share = product.search(100, 3)
    assert coverage > 0.98
    assert share < 0.5
    assert (product.recall_all - product.recall(item)) / product.recall_all < 0.01


def test_a_step_that_is_too_large_costs_recall(samples, attention):
    assert Trained(samples, NET, epsilon=5.0).recall_all < 0.9 * attention.recall_all


def test_half_precision_loses_little(attention):
    catalogue = attention.retriever.catalogue
    half = type(catalogue).of(
        catalogue.scorer, catalogue.available_I, graph=ItemGraph.Config(links=8), precision="bf16"
    )
    assert half.row_IX.dtype == torch.bfloat16
    item = candidates(half.exhaustive(attention.requests, MOST)).item_id
    assert float(item.within(attention.best).float().mean()) > 0.95
    assert abs(attention.recall(item) - attention.recall_all) < 0.02
