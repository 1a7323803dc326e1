"""DIEN reads the order of a history; its parts are the paper's formulas."""

import pytest
import torch

from headrace.data import Candidates, Ragged
from headrace.errors import ConfigError
from headrace.nn.next_event import NextEvent, others
from headrace.ops import gru
from headrace.ranking.dien import DIEN
from headrace.ranking.din import DIN
from tests.ranking import toy

KINDS, ITEMS = 5, 21
KIND = torch.arange(ITEMS) % KINDS + 1  # of each item


def ordered(size, seed, longest=9):
    """The click is likely where the candidate is of the kind of the very last event."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (size,), generator=g).tolist()
    history = [torch.randint(1, ITEMS, (n,), generator=g) for n in lengths]
    last_B = torch.stack([KIND[row[-1]] for row in history])
    alike_B4 = torch.rand(size, 4, generator=g) < 0.5
    other_B4 = (last_B[:, None] + torch.randint(0, KINDS - 1, (size, 4), generator=g)) % KINDS + 1
    kind_B4 = torch.where(alike_B4, last_B[:, None], other_B4)
    item_B4 = kind_B4 + KINDS * torch.randint(0, 4, (size, 4), generator=g) - 1
    item_B4 = torch.where(item_B4 == 0, KINDS, item_B4)  # item 0 is unknown; 5 is of its kind
    assert torch.equal(KIND[item_B4], kind_B4)
    label_B4 = torch.rand(size, 4, generator=g) < 0.1 + 0.8 * alike_B4
    return toy.batch(toy.requests({}, history), item_B4, label_B4)


def shuffled(data):
    """The same with each history in another order."""
    g = torch.Generator().manual_seed(5)
    item = data.requests.ragged("history.item")
    rows = [item[b][torch.randperm(len(item[b]), generator=g)] for b in range(len(item))]
    columns = {**data.requests.features, "history.item": Ragged.of(rows)}
    asked = type(data.requests)(
        data.requests.user,
        data.requests.time_ms,
        columns,
        data.requests.group,
        data.requests.exclude,
    )
    return type(data)(asked, data.candidates, data.labels, data.weight, data.pool)


def build(kind=DIEN, seed=0, dim=8, **settings):
    torch.manual_seed(seed)
    config = kind.Config(**{"age_dim": 0, "hidden": (16,), **settings})
    return config.build(toy.space({}, {"item": torch.arange(ITEMS), "kind": KIND}, dim), ("click",))


HOW = {"epochs": 6, "learning_rate": 5e-3, "table_learning_rate": 0.1}


@pytest.fixture(scope="module")
def data():
    return ordered(1_500, 1)


@pytest.fixture(scope="module")
def later():
    return ordered(1_500, 2)


@pytest.mark.parametrize("gating", ["augru", "aigru", "agru"])
def test_order_matters_to_dien(gating, data, later):
    model = toy.train(build(state=16, gating=gating), data, 50, **HOW)
    assert toy.auc(model, later) > 0.8
    assert toy.auc(model, shuffled(later)) <= toy.auc(model, later) - 0.05


def test_order_does_not_matter_to_din(data, later):
    model = toy.train(build(DIN), data, 50, **HOW)
    assert toy.auc(model, shuffled(later)) == pytest.approx(toy.auc(model, later), abs=1e-3)


@pytest.mark.parametrize("gating", ["augru", "aigru", "agru"])
def test_scores_are_the_papers_formula(gating, later):
    """One candidate at a time, step by step."""
    model = build(state=6, gating=gating).eval()
    some = toy.rows_of(later, torch.arange(5))
    score_NT = model.score(some.requests, some.candidates)
    history, items = some.requests.ragged("history.item"), some.candidates.item_id
    with torch.inference_mode():
        for n, (row, item) in enumerate(zip(items.row, items.values, strict=True)):
            event_LD, target_1D = model.embed.items(history[row]), model.embed.items(item[None])
            state_LH = steps(model.interest, event_LD, torch.ones(len(event_LD)), "augru")
            a_L = (state_LH @ model.attention(target_1D)[0]).softmax(0)
            evolved_LH = steps(model.evolution, state_LH, a_L, gating)
            logit = model.head(torch.cat([target_1D, evolved_LH[-1:]], dim=1))
            torch.testing.assert_close(score_NT[n], logit[0].sigmoid(), atol=1e-6, rtol=1e-5)


def steps(layer, event_LD, a_L, gating):
    h_H, states = torch.zeros(len(layer.weight)), []
    for e_D, a in zip(event_LD, a_L, strict=True):
        x_G = layer.project(e_D * a if gating == "aigru" else e_D) + layer.bias
        (xu, xr, xh), (qu, qr, qh) = x_G.chunk(3), (h_H @ layer.weight).chunk(3)
        u_H = {"augru": a * (xu + qu).sigmoid(), "aigru": (xu + qu).sigmoid(), "agru": a}[gating]
        h_H = (1 - u_H) * h_H + u_H * (xh + (xr + qr).sigmoid() * qh).tanh()
        states.append(h_H)
    return torch.stack(states)


@pytest.mark.parametrize("scorer", ["mlp", "inner"])
def test_the_auxiliary_loss_learns_what_comes_next(scorer):
    """Histories that run through the items in order: the next event can be known."""
    start_B = torch.arange(200) % (ITEMS - 1)
    history = [(s + torch.arange(8)) % (ITEMS - 1) + 1 for s in start_B]
    item_B1 = torch.randint(1, ITEMS, (200, 1), generator=torch.Generator().manual_seed(1))
    data = toy.batch(toy.requests({}, history), item_B1, item_B1 % 2 == 0)
    model = build(state=16, auxiliary=scorer)
    torch.manual_seed(7)
    before = model.loss(data)["next_event"].item()
    toy.train(model, data, 20, **HOW | {"epochs": 12})
    assert model.loss(data)["next_event"].item() < 0.4 * before


def test_the_loss_of_each_row_is_the_mean_over_its_steps_but_the_last():
    torch.manual_seed(1)
    net = NextEvent("inner", 3, 3)
    lengths = torch.tensor([4, 0, 1, 2])
    rows = Ragged.sized(torch.randn(7, 3), lengths)
    event_ED, other_ED = torch.randn(7, 3), torch.randn(7, 3)
    loss_B = net(rows.values, event_ED, other_ED, rows.offsets)
    for b, length in enumerate(lengths.tolist()):
        a = int(rows.offsets[b])
        terms = [
            -(rows.values[t] @ event_ED[t + 1]).sigmoid().log()
            - (1 - (rows.values[t] @ other_ED[t + 1]).sigmoid()).log()
            for t in range(a, a + length - 1)
        ]
        expected = torch.stack(terms).mean() if terms else torch.tensor(0.0)
        torch.testing.assert_close(loss_B[b], expected)


def test_another_item_is_never_the_same_nor_unknown_and_any_other_is():
    item_E = torch.arange(6).repeat(2_000)
    torch.manual_seed(3)
    drawn_E = others(item_E, 6)
    assert not (drawn_E == item_E).any()
    assert drawn_E[item_E == 2].unique().tolist() == [1, 3, 4, 5]
    counts = torch.bincount(drawn_E[item_E == 2]).float()
    assert counts[[1, 3, 4, 5]].min() > 0.85 * counts.max()
    torch.manual_seed(3)
    assert torch.equal(others(item_E, 6), drawn_E)


def test_the_auxiliary_loss_is_linear_in_the_weights(later):
    model, losses = build(), []
    some = toy.rows_of(later, torch.arange(8))
    for factor in (0.0, 1.0, 2.0):
        torch.manual_seed(4)
        weighed = type(some)(
            some.requests, some.candidates, some.labels, some.weight * factor, some.pool
        )
        losses.append(model.loss(weighed)["next_event"].item())
    assert losses[0] == 0 and losses[2] == pytest.approx(2 * losses[1])


def test_training_is_deterministic(data):
    some = toy.rows_of(data, torch.arange(200))
    first, second = (toy.train(build(), some, 50, epochs=2) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_without_alpha_there_is_no_auxiliary_loss(later):
    model = build(alpha=0.0)
    some = toy.rows_of(later, torch.arange(8))
    assert list(model.loss(some)) == ["click"]
    assert not any("next_event" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_histories_train_and_score(length):
    history = [torch.arange(1, length + 1)] * 3
    item = torch.tensor([[3, 4]] * 3)
    data = toy.batch(toy.requests({}, history), item, item == 3)
    model = build()
    losses = model.loss(data)
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert (losses["next_event"].item() > 0) == (length > 1)
    assert all(p.grad is None or p.grad.to_dense().isfinite().all() for p in model.parameters())
    assert model.eval().score(data.requests, data.candidates).isfinite().all()


def test_the_first_layer_runs_once_a_request_and_keeps_no_states_in_serving(later, monkeypatch):
    model, seen = build().eval(), []
    scan = gru.scan

    def spy(mode, x_EG, *rest):
        out = scan(mode, x_EG, *rest)
        seen.append((mode, len(x_EG), len(rest[-1]), len(out[0])))
        return out

    monkeypatch.setattr(gru, "scan", spy)
    one = toy.rows_of(later, torch.arange(1))
    many = Candidates(Ragged.of([torch.arange(1, 200) % (ITEMS - 1) + 1]))
    model.score(one.requests, many)
    events = len(one.requests.ragged("history.item").values)
    assert seen == [(gru.PLAIN, events, 1, events), (gru.AUGRU, events, 199, 0)]


def test_the_inner_product_asks_for_equal_widths():
    with pytest.raises(ConfigError, match="events have width 16; set state = 16"):
        build(auxiliary="inner", state=8)


def test_a_catalogue_of_one_item_has_no_negatives():
    space = toy.space({}, {"item": torch.arange(2)})
    with pytest.raises(ConfigError, match="set alpha = 0"):
        DIEN.Config().build(space, ("click",))
    DIEN.Config(alpha=0.0).build(space, ("click",))
