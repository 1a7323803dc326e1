from dataclasses import replace

import pytest
import torch

from headrace.data import Candidates, Ragged
from headrace.errors import BundleError, ConfigError
from headrace.nn.history import HistoryEncoder
from headrace.retrieval._indexes import Exact, FastScan, Hnsw
from headrace.retrieval._judge import Judge
from headrace.retrieval.two_tower import (
    Objective,
    Popularity,
    TwoTower,
    TwoTowerNet,
    TwoTowerRetriever,
    log_popularity,
    positive_counts,
    union,
)
from headrace.training import Trainer, Training
from tests import tiny
from tests.learning import overfit

SMALL = {
    "dim": 8,
    "user_hidden": (16,),
    "item_hidden": (16,),
    "encoder": HistoryEncoder.Config(dim=8, heads=2),
    "requests_per_batch": 64,
    "pool": 16,
    "judge_at": 10,
}
ALL = {"item_bias": True, "popularity": Popularity(weight=0.5), "skip": "lifetime"}
INDEXES = [Exact.Config(), FastScan.Config(), Hnsw.Config(links=8)]
KINDS = [{"index": index, **more} for index in INDEXES for more in ({}, ALL)]


def settings(**more):
    training = Training(epochs=1, learning_rate=0.01, table_learning_rate=0.1)
    return TwoTower.Config(**{**SMALL, "training": training, **more})


@pytest.fixture(scope="module", params=KINDS)
def channel(request, tiny_samples):
    return settings(**request.param).build(tiny_samples.space)


@pytest.fixture(scope="module")
def fitted(channel, tiny_samples):
    return channel.fit(tiny_samples, "two_tower", Trainer())


@pytest.fixture(scope="module")
def requests(tiny_samples):
    return tiny_samples.features(tiny_samples.first_requests("test")[0])


def ask(number, requests):
    return torch.full((len(requests),), number)


class TestLaws:
    def test_at_most_the_quota_distinct_and_best_first(self, fitted, requests):
        quota_B = torch.arange(len(requests)) % 12
        found = fitted.retrieve(requests, quota_B)
        assert (found.item_id.lengths <= quota_B).all()
        assert found.scores["score"].shape == (len(found), 1)
        for b in range(len(requests)):
            items = found.item_id[b]
            assert len(items.unique()) == len(items)
            score = found.scores["score"][found.item_id.row == b, 0]
            assert (score.diff() <= 0).all()
        assert (found.item_id.values > 0).all()

    def test_nothing_excluded_is_found(self, fitted, requests):
        first = fitted.retrieve(requests, ask(10, requests)).item_id
        exclude = first.take_rows(torch.arange(len(requests)))
        found = fitted.retrieve(replace(requests, exclude=exclude), ask(10, requests)).item_id
        for b in range(len(requests)):
            assert not set(found[b].tolist()) & set(first[b].tolist())
        assert int(found.lengths.min()) == 10

    def test_the_same_alone_as_in_a_batch(self, fitted, requests):
        together = fitted.retrieve(requests, ask(8, requests))
        for b in range(0, len(requests), 9):
            alone = fitted.retrieve(requests.take(torch.tensor([b])), torch.tensor([8]))
            assert torch.equal(alone.item_id.values, together.item_id[b])
            score = together.scores["score"][together.item_id.row == b]
            torch.testing.assert_close(alone.scores["score"], score)

    def test_restored_bit_for_bit(self, channel, fitted, requests, tiny_samples):
        arrays = {name: x.clone().contiguous() for name, x in fitted.arrays().items()}
        again = channel.restore(arrays, tiny_samples.space)
        before, after = (r.retrieve(requests, ask(15, requests)) for r in (fitted, again))
        assert torch.equal(before.item_id.values, after.item_id.values)
        assert torch.equal(before.item_id.offsets, after.item_id.offsets)
        assert torch.equal(before.scores["score"], after.scores["score"])

    def test_users_without_history(self, fitted, tiny_samples):
        one = tiny_samples.features(tiny_samples.requests("train")[:1])
        assert not len(one.ragged("history.item").values)
        found = fitted.retrieve(one, torch.tensor([10]))
        assert len(found) == 10
        assert found.scores["score"].isfinite().all()

    def test_no_requests(self, fitted, requests):
        nobody = requests.take(torch.zeros(0, dtype=torch.int64))
        assert len(fitted.retrieve(nobody, torch.zeros(0, dtype=torch.int64)).item_id) == 0

    def test_item_vectors_have_length_1(self, fitted, tiny_samples):
        size = len(tiny_samples.space.catalogue)
        assert fitted.item_vectors.shape == (size, 8)
        torch.testing.assert_close(fitted.item_vectors.norm(dim=1), torch.ones(size))


def test_learns_the_groups_of_the_tiny_shop(tiny_samples):
    """Users want their group's 15 of 60 items; chance is a recall of 1/4 in a quarter of them."""
    trainer = Trainer()
    made = settings(training=Training(epochs=4, learning_rate=0.01, table_learning_rate=0.1))
    made.build(tiny_samples.space).fit(tiny_samples, "two_tower", trainer)
    history = trainer.histories["two_tower"]
    assert history.best is not None
    assert history.best[1] > 0.6


def test_overfits_a_tiny_set(tiny_samples):
    torch.manual_seed(0)
    config = settings(temperature=0.2)
    net = TwoTowerNet(config, tiny_samples.space)
    objective = Objective(net, torch.from_numpy(tiny_samples.frequency))
    batch = tiny_samples.positives_batch(tiny_samples.requests("train")[-6:], seed=1, pool=30)
    losses = overfit(net, lambda: {"softmax": objective.loss(batch)["softmax"]}, steps=120)
    assert losses[-1] < 0.2 * losses[0]


def test_a_score_is_the_scaled_product_and_what_is_popular(tiny_samples, requests):
    torch.manual_seed(0)
    config = settings(item_bias=True, temperature=0.5)
    net = TwoTowerNet(config, tiny_samples.space).eval()
    every = torch.arange(len(tiny_samples.space.catalogue))
    now_I = torch.randn(len(every))
    made = TwoTowerRetriever.of(net, now_I, tiny_samples.space, Exact.Config())
    found = made.retrieve(requests, ask(5, requests))
    with torch.no_grad():
        user_BHD, item_ID, bias_IX = net.towers(net.embed, requests, every)
    score_BI = user_BHD[:, 0] @ item_ID.T / 0.5 + bias_IX[:, 0] + now_I
    want_N = score_BI[found.item_id.row, found.item_id.values]
    torch.testing.assert_close(found.scores["score"][:, 0], want_N)


def test_skipped_items_are_those_of_the_sequence(tiny_samples, requests):
    torch.manual_seed(0)
    net = TwoTowerNet(settings(skip="history"), tiny_samples.space).eval()
    size = len(tiny_samples.space.catalogue)
    made = TwoTowerRetriever.of(net, torch.zeros(size), tiny_samples.space, Exact.Config())
    found = made.retrieve(requests, ask(60, requests)).item_id
    history = requests.ragged("history.item")
    for b in range(len(requests)):
        assert set(found[b].tolist()) == set(range(1, size)) - set(history[b].tolist())


def test_withdrawn_items_are_not_indexed(tiny_samples, requests):
    space = tiny_samples.space
    gone = torch.arange(1, 30)
    smaller = space.with_catalogue(space.catalogue.withdraw(gone))
    net = TwoTowerNet(settings(), space).eval()
    made = TwoTowerRetriever.of(net, torch.zeros(len(space.catalogue)), smaller, Exact.Config())
    found = made.retrieve(requests, ask(60, requests)).item_id
    assert int(found.values.min()) >= 30


@pytest.mark.parametrize("index", INDEXES)
def test_items_of_a_log_that_grew_are_found(index, tiny_samples, tmp_path):
    """The bundle knows 60 items, the log has 66 by now."""
    config = settings(index=index, popularity=Popularity())
    trained = config.build(tiny_samples.space).fit(tiny_samples, "two_tower", Trainer())
    raw = tiny.raw_log()
    raw = replace(raw, items=tiny.raw_log(items=66).items)
    space = tiny_samples.space
    grown = type(space).over(space.schema, space.encoders, tiny.write(tmp_path, raw))
    assert len(grown.catalogue) == len(space.catalogue) + 6
    restored = config.build(grown).restore(trained.arrays(), grown)
    assert restored.item_vectors.shape == (len(grown.catalogue), 8)
    assert torch.equal(restored.item_vectors[: len(space.catalogue)], trained.item_vectors)
    one = tiny_samples.features(tiny_samples.first_requests("test")[0][:1])
    found = restored.retrieve(one, torch.tensor([100])).item_id.values
    assert len(found) == len(grown.catalogue) - 1


def test_another_index_over_the_same_items(tiny_samples, requests):
    made = settings().build(tiny_samples.space).fit(tiny_samples, "two_tower", Trainer())
    quota_B = ask(10, requests)
    before = made.retrieve(requests, quota_B)
    for index in INDEXES:
        found = made.reindexed(index).retrieve(requests, quota_B)
        assert torch.equal(found.item_id.values, before.item_id.values)
        torch.testing.assert_close(found.scores["score"], before.scores["score"])


def test_weights_of_other_settings_are_refused(tiny_samples):
    space = tiny_samples.space
    arrays = settings().build(space).fit(tiny_samples, "two_tower", Trainer()).arrays()
    with pytest.raises(BundleError, match="do not fit the settings"):
        settings(dim=4).build(space).restore(arrays, space)


def test_a_sequence_to_skip_must_exist(tiny_samples):
    with pytest.raises(ConfigError, match="no sequence 'lifetimes'; did you mean 'lifetime'"):
        settings(skip="lifetimes").build(tiny_samples.space)


@pytest.mark.parametrize("new", [False, True])
def test_positives_are_counted_as_batches_draw_them(new, tiny_log):
    samples = tiny.samples(tiny_log, new_to_user=new, max_positives=2)
    size = len(samples.space.catalogue)
    drawn_I = torch.zeros(size)
    for epoch in range(30):
        for batch in samples.retrieval("train", 256, pool=0).epoch(epoch):
            drawn_I += torch.bincount(batch.candidates.item_id.values, minlength=size)
    counted_I = positive_counts(samples)
    assert float(counted_I.sum()) == pytest.approx(float(drawn_I.sum() / 30), rel=1e-6)
    assert (counted_I - drawn_I / 30).abs().max() < 0.1 * counted_I.max()


class TestPopularity:
    def test_a_half_life_halves(self, tiny_samples):
        """Shares by a plain loop over the target events."""
        until_ms = tiny_samples.split.valid_ms
        now_I = log_popularity(tiny_samples, Popularity(weight=2.0, half_life_days=5.0), until_ms)
        log = tiny_samples.log
        count_I = torch.zeros(len(now_I), dtype=torch.float64)
        for item, kind, time_ms in zip(
            *(log.event(c).tolist() for c in ("item", "type", "time_ms")), strict=True
        ):
            if kind == log.type_code("buy") and time_ms < until_ms:
                count_I[item] += 0.5 ** ((until_ms - time_ms) / tiny.DAY_MS / 5)
        ever_I = torch.from_numpy(tiny_samples.frequency + 1.0)
        want_I = 0.99 * count_I / count_I.sum() + 0.01 * ever_I / ever_I.sum()
        torch.testing.assert_close(now_I, 2 * want_I.log().float())

    def test_none_is_none(self, tiny_samples):
        assert not log_popularity(tiny_samples, None, tiny_samples.split.valid_ms).any()

    def test_recount_moves_popularity_and_nothing_else(self, tiny_samples, requests):
        config = settings(popularity=Popularity())
        space = tiny_samples.space
        net = TwoTowerNet(config, space).eval()
        now_I = log_popularity(tiny_samples, config.popularity, tiny_samples.split.valid_ms)
        later_I = log_popularity(tiny_samples, config.popularity, tiny_samples.split.test_ms)
        assert not torch.equal(now_I, later_I)
        counted = TwoTowerRetriever.of(net, now_I, space, Exact.Config()).recount(tiny_samples)
        wanted = TwoTowerRetriever.of(net, later_I, space, Exact.Config())
        first, second = (r.retrieve(requests, ask(10, requests)) for r in (counted, wanted))
        assert torch.equal(first.item_id.values, second.item_id.values)
        torch.testing.assert_close(first.scores["score"], second.scores["score"])

    def test_without_popularity_there_is_nothing_to_recount(self, tiny_samples):
        net = TwoTowerNet(settings(), tiny_samples.space).eval()
        zeros = torch.zeros(len(tiny_samples.space.catalogue))
        made = TwoTowerRetriever.of(net, zeros, tiny_samples.space, Exact.Config())
        assert made.recount(tiny_samples) is made


class TestJudge:
    class Oracle:
        """Finds what it is told to."""

        def __init__(self, item):
            self.item = item

        def retrieve(self, requests, quota_B):
            return Candidates(self.item)

        def arrays(self):
            return {}

    def test_recall_is_averaged_over_requests(self, tiny_samples):
        _, truth = tiny_samples.first_requests("valid")
        judge = Judge(tiny_samples, 10, new=False)
        assert judge.able
        assert judge(self.Oracle(truth)) == 1
        first = Ragged.of([truth[b][:1] for b in range(len(truth))])
        assert judge(self.Oracle(first)) == pytest.approx(float((1 / truth.lengths).mean()))

    def test_only_new_items_count_if_asked_so(self, tiny_samples):
        rows, truth = tiny_samples.first_requests("valid")
        new_N = tiny_samples.is_new(rows, truth)
        judge = Judge(tiny_samples, 10, new=True)
        old = Candidates(truth).take(torch.nonzero(~new_N)[:, 0]).item_id
        assert judge(self.Oracle(truth)) == 1
        assert judge(self.Oracle(old)) == 0


def test_union_of_rows():
    a = Ragged.of([torch.tensor([3, 1, 3]), torch.tensor([], dtype=torch.int64)])
    b = Ragged.of([torch.tensor([2, 3]), torch.tensor([7])])
    both = union(a, b)
    assert [both[i].tolist() for i in range(2)] == [[1, 2, 3], [7]]
    assert union(Ragged.of([]), Ragged.of([])).offsets.tolist() == [0]
