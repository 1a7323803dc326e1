import pytest
import torch

from headrace.data import Candidates, Ragged
from headrace.errors import BundleError, ConfigError
from headrace.nn.history import HistoryEncoder
from headrace.preranking.vector import Part, Vector, inner_products
from tests.learning import overfit
from tests.tiny import with_only

TASKS = ("click", "buy")
CHOICES = [{}, {"shortcut": False, "item_bias": False}]


def build(samples, seed=0, tasks=TASKS, **settings):
    torch.manual_seed(seed)
    return Vector.Config(**{"dim": 16, **settings}).build(samples.space, tasks)


@pytest.mark.parametrize("settings", CHOICES)
class TestVector:
    def test_a_probability_for_every_candidate_and_task(self, settings, tiny_samples, batch):
        p_NT = build(tiny_samples, **settings).eval().score(batch.requests, batch.candidates)
        assert p_NT.shape == (len(batch.candidates), 2)
        assert ((p_NT > 0) & (p_NT < 1)).all()

    def test_it_reads_no_sequence_but_the_one_it_names(self, settings, tiny_samples, batch):
        model = build(tiny_samples, **settings).eval()
        assert model.reads_sequences == ("history",)
        only = with_only(batch.requests, model.reads_sequences)
        whole_NT = model.score(batch.requests, batch.candidates)
        assert torch.equal(model.score(only, batch.candidates), whole_NT)

    def test_frozen_products_equal_the_full_forward(self, settings, tiny_samples, batch):
        model = build(tiny_samples, **settings).eval()
        with torch.no_grad():
            full_NT = model(batch.requests, batch.candidates)
            model.freeze()
            frozen_NT = model(batch.requests, batch.candidates)
        torch.testing.assert_close(frozen_NT, full_NT, atol=1e-5, rtol=0)

    def test_products_equal_the_formula(self, settings, tiny_samples, batch):
        """One candidate at a time, no folding."""
        model = build(tiny_samples, **settings).eval()
        model.bias.data.normal_()
        items = batch.candidates.item_id
        with torch.no_grad():
            logit_NT = model(batch.requests, batch.candidates)
            user_BTD, item_ND, own_NX = model.towers(model.embed, batch.requests, items.values)
            for n in range(0, len(items.values), 50):
                for t in range(2):
                    cosine = user_BTD[items.row[n], t] @ item_ND[n]
                    own = own_NX[n, t] if model.config.item_bias else 0.0
                    want = model.log_scale[t].exp() * cosine + model.bias[t] + own
                    torch.testing.assert_close(logit_NT[n, t], want[0])

    def test_the_same_alone_as_in_a_batch(self, settings, tiny_samples, batch):
        model = build(tiny_samples, **settings)
        model.freeze()
        whole_NT = model.score(batch.requests, batch.candidates)
        for b in range(0, len(batch.requests), 7):
            row = torch.tensor([b])
            alone_NT = model.score(batch.requests.take(row), batch.candidates.take_rows(row))
            together_NT = whole_NT[batch.candidates.item_id.row == b]
            torch.testing.assert_close(alone_NT, together_NT, atol=1e-6, rtol=1e-5)

    def test_overfits_a_tiny_set(self, settings, tiny_samples):
        rows = tiny_samples.requests("train")[-4:]
        tiny = tiny_samples.batch(tiny_samples.draw(rows, seed=3))
        model = build(tiny_samples, **settings)
        losses = overfit(model, lambda: model.loss(tiny))
        assert losses[-1] < 0.2 * losses[0]

    def test_weights_restore_bit_for_bit(self, settings, tiny_samples, batch):
        model, other = build(tiny_samples, **settings), build(tiny_samples, seed=1, **settings)
        other.load_state_dict(model.state_dict())
        model.freeze()
        other.freeze()
        scores = [m.score(batch.requests, batch.candidates) for m in (model, other)]
        assert torch.equal(*scores)
        assert model.version() == other.version()

    def test_no_candidates_no_scores(self, settings, tiny_samples, batch):
        model = build(tiny_samples, **settings).eval()
        none = batch.candidates.take(torch.zeros(0, dtype=torch.int64))
        assert model.score(batch.requests, none).shape == (0, 2)
        model.freeze()
        assert model.score(batch.requests, none).shape == (0, 2)

    def test_a_user_without_history_is_scored(self, settings, tiny_samples):
        rows = tiny_samples.requests("train")[:1]
        one = tiny_samples.batch(tiny_samples.draw(rows, seed=3))
        assert not len(one.requests.ragged("history.item").values)
        model = build(tiny_samples, **settings)
        assert model.score(one.requests, one.candidates).isfinite().all()


def test_biases_start_at_the_base_rates(tiny_samples):
    model = build(tiny_samples, item_bias=False, scale=1e-6)
    batches = tiny_samples.ranking("train", 200)
    model.prepare(batches)
    batch = next(batches.epoch(0))
    with torch.no_grad():
        p_NT = batch.sampled(model(batch.requests, batch.candidates)).sigmoid()
    assert batch.log_rate is not None and batch.log_rate.unique().numel() > 1
    for t, task in enumerate(TASKS):
        assert p_NT[:, t].mean() == pytest.approx(float(batch.labels[task].mean()), rel=0.1)


def test_cross_features_are_not_read(tiny_samples, batch):
    model = build(tiny_samples).eval()
    assert not model.reads_cross
    bare = Candidates(batch.candidates.item_id)
    scores = [model.score(batch.requests, c) for c in (bare, batch.candidates)]
    assert torch.equal(*scores)


def test_parts_of_two_versions_are_not_mixed(tiny_samples, batch):
    model, other = build(tiny_samples), build(tiny_samples, seed=1)
    model.freeze()
    other.freeze()
    assert model.version() != other.version()
    users = model.users(batch.requests)
    assert users.version == model.items.version == model.version()
    inner_products(users, model.items, batch.candidates.item_id)
    with pytest.raises(BundleError, match=f"version {model.version()}.*{other.version()}"):
        inner_products(users, other.items, batch.candidates.item_id)


def test_one_weight_makes_another_version(tiny_samples):
    model = build(tiny_samples)
    before = model.version()
    model.bias.data[0] += 1e-6
    assert model.version() != before


def test_weights_in_training_have_no_parts(tiny_samples, batch):
    model = build(tiny_samples)
    with pytest.raises(RuntimeError, match="freeze first"):
        model.users(batch.requests)
    with pytest.raises(RuntimeError, match="freeze first"):
        _ = model.items


def test_one_product_a_task_and_candidate():
    users = Part(torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]]), "v")
    items = Part(torch.tensor([[0.0, 0.0], [3.0, 4.0], [5.0, 6.0]]), "v")
    item_id = Ragged.of([torch.tensor([1]), torch.tensor([2, 1])])
    assert inner_products(users, items, item_id)[:, 0].tolist() == [3.0, 12.0, 8.0]


def test_tells_a_user_s_own_items_from_others(tiny_samples):
    """It sees no counter, only the history: repurchases must come through the vectors."""
    model = build(tiny_samples, tasks=("click",), encoder=HistoryEncoder.Config(dim=16))
    rows = tiny_samples.requests("train")[-300:]
    batch = tiny_samples.batch(tiny_samples.draw(rows, seed=1))
    overfit(model, lambda: model.loss(batch), steps=60)
    later = tiny_samples.requests("valid")[:100]
    batch = tiny_samples.batch(tiny_samples.draw(later, seed=2))
    model.freeze()
    score_N = model.score(batch.requests, batch.candidates)[:, 0]
    label_N = batch.labels["click"] > 0
    assert score_N[label_N].mean() > 1.2 * score_N[~label_N].mean()


def test_an_unknown_sequence_is_named(tiny_samples):
    with pytest.raises(ConfigError, match="no sequence 'histories'"):
        Vector.Config(history="histories").build(tiny_samples.space, TASKS)
