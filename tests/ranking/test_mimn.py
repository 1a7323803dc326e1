"""MIMN keeps of a user what it is asked for, in a state of constant size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from headrace.data import Ragged
from headrace.errors import ConfigError
from headrace.nn.memory import USER_STATE
from headrace.ops import memory
from headrace.ranking.mimn import MIMN
from tests.ranking import toy

KINDS, ITEMS = 5, 21
KIND = torch.arange(ITEMS) % KINDS + 1  # of each item
WAYS = [
    {"variant": variant, "read": read}
    for variant in ("paper", "code")
    for read in ("state", "target")
]


def liked(size, seed, longest=30):
    """A user has one kind nearly throughout, and likes candidates of it."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (size,), generator=g).tolist()
    own_B = torch.randint(1, KINDS + 1, (size,), generator=g)
    item_B4 = torch.randint(1, ITEMS, (size, 4), generator=g)
    history = []
    for n, own in zip(lengths, own_B.tolist(), strict=True):
        row = torch.randint(1, ITEMS, (n,), generator=g)
        alike = (own == KIND).nonzero()[:, 0]
        alike = alike[torch.randint(0, len(alike), (n,), generator=g)].clamp(min=1)
        history.append(torch.where(torch.rand(n, generator=g) < 0.8, alike, row))
    label_B4 = torch.rand(size, 4, generator=g) < 0.1 + 0.8 * (KIND[item_B4] == own_B[:, None])
    return toy.batch(remembered(history), item_B4, label_B4)


def remembered(history):
    """Requests without recent events: the memory alone can tell."""
    asked = toy.requests({}, history)
    none = Ragged(torch.zeros(0, dtype=torch.int64), torch.zeros(len(history) + 1).long())
    recent = {f"recent.{name}": none for name in ("item", "time_ms", "type")}
    return replace(asked, features={**asked.features, **recent})


def build(seed=0, **settings):
    torch.manual_seed(seed)
    config = MIMN.Config(
        **{"history": "recent", "long": "history", "age_dim": 0, "hidden": (16,), **settings}
    )
    return config.build(toy.space({}, {"item": torch.arange(ITEMS), "kind": KIND}), ("click",))


HOW = {"epochs": 6, "learning_rate": 1e-2, "table_learning_rate": 0.1}


@pytest.fixture(scope="module")
def data():
    return liked(800, 1)


@pytest.fixture(scope="module")
def later():
    return liked(400, 2)


def variation(model, batch):
    """Coefficient of variation of how much was written into each slot."""
    with torch.inference_mode():
        state_BZ = model.states(batch.requests)
        return model.memory.unevenness(state_BZ).sqrt().mean().item()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_memory_tells_what_a_user_likes(way, data, later):
    model = toy.train(build(**way), data, 50, **HOW)
    assert toy.auc(model, later) > 0.75


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_regularised_slots_are_used_more_evenly(variant, data, later):
    """Variation of usage at least halves, at no loss of AUC."""
    bare, even = (
        toy.train(build(variant=variant, utilisation=share), data, 50, **HOW)
        for share in (0.0, 0.01)
    )
    assert variation(even, later) < 0.5 * variation(bare, later)
    assert toy.auc(even, later) > toy.auc(bare, later) - 0.01


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_event_by_event_is_the_batch(way, later):
    model = build(**way).eval()
    some = toy.rows_of(later, torch.arange(6))
    item = some.requests.ragged("history.item")
    with torch.inference_mode():
        whole = model.states(some.requests)
        for b in range(len(item)):
            state = model.start(1)
            for number in item[b]:
                state = model.step(state, number[None])
            torch.testing.assert_close(state[0], whole[b], atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_kept_state_scores_as_the_history(way, later):
    model = build(**way)
    model.freeze()
    asked, found = later.requests, later.candidates
    columns = {**asked.features, USER_STATE: model.states(asked)}
    for name in ("item", "time_ms", "type"):  # not read where there is a state
        del columns[f"history.{name}"]
    kept = replace(asked, features=columns)
    torch.testing.assert_close(model.score(kept, found), model.score(asked, found))


def test_the_cost_of_a_request_does_not_know_how_many_events_there_were(later, monkeypatch):
    """Numbers that enter the model beside the candidates, and steps made."""
    model, steps = build(), []
    model.freeze()
    scan = memory.scan

    def spy(*given, **how):
        steps.append(len(given[4]))
        return scan(*given, **how)

    monkeypatch.setattr(memory, "scan", spy)
    sizes = []
    for length in (1, 1_000):
        asked = remembered([torch.arange(length) % (ITEMS - 1) + 1])
        state = model.states(asked)
        columns = {n: c for n, c in asked.features.items() if not n.startswith("history")}
        kept = replace(asked, features={**columns, USER_STATE: state})
        steps.clear()
        model.score(kept, toy.rows_of(later, torch.arange(1)).candidates)
        sizes.append((state.numel(), list(steps)))
        model.step(state, torch.tensor([3]))
        assert steps == [1]
    assert sizes[0] == sizes[1] == (model.sizes.total, [])


def test_the_auxiliary_loss_is_an_option(later):
    some = toy.rows_of(later, torch.arange(8))
    assert list(build().loss(some)) == ["click", "utilisation"]
    assert list(build(utilisation=0.0, alpha=1.0).loss(some)) == ["click", "next_event"]


@pytest.mark.parametrize("length", [0, 1, 2])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_short_histories_train_and_score(way, length):
    history = [torch.arange(1, length + 1)] * 3
    item = torch.tensor([[3, 4]] * 3)
    data = toy.batch(remembered(history), item, item == 3)
    model = build(**way, alpha=1.0)
    losses = model.loss(data)
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is None or p.grad.to_dense().isfinite().all() for p in model.parameters())
    assert model.eval().score(data.requests, data.candidates).isfinite().all()


def test_the_version_is_of_what_states_depend_on():
    model, other = build(), build(hidden=(8,))
    assert model.encoder().version == other.encoder().version
    with torch.no_grad():
        other.body.head[0].weight.add_(1)
    assert model.encoder().version == other.encoder().version
    for change in (other.memory.first, other.embed.tables["table_kind"].weight):
        before = other.encoder().version
        with torch.no_grad():
            change.add_(1)
        assert other.encoder().version != before
    assert build(top=2).encoder().version != model.encoder().version


def test_arrays_are_what_the_model_computes(later):
    model = build()
    model.freeze()
    encoder, item = model.encoder(), later.requests.ragged("history.item")
    start = np.repeat(encoder.start()[None], len(item), axis=0)
    state = encoder.advance(start, item.values.numpy(), item.offsets.numpy())
    torch.testing.assert_close(torch.from_numpy(state), model.states(later.requests))
    assert (start == encoder.start()).all()


def test_mistakes_are_named():
    with pytest.raises(ValidationError, match="top: 9 of 8 slots"):
        MIMN.Config(top=9)
    with pytest.raises(ConfigError, match="no sequence 'lifetme'"):
        build(long="lifetme")
    space = toy.space({}, {"item": torch.arange(2)})
    with pytest.raises(ConfigError, match=r"mimn: the auxiliary loss .* set alpha = 0"):
        MIMN.Config(long="history", alpha=1.0).build(space, ("click",))
