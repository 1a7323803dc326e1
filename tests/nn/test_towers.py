from dataclasses import replace

import pytest
import torch

from headrace.errors import ConfigError
from headrace.nn.history import HistoryEncoder
from headrace.nn.towers import Towers, check, embedder

CHOICES = [
    {},
    {"shortcut": False, "activation": "prelu"},
    {"encoder": HistoryEncoder.Config(pooling="mean")},
    {"encoder": HistoryEncoder.Config(events=3, heads=1), "user_hidden": (), "item_hidden": ()},
]


def build(samples, vectors=2, extra=1, seed=0, **settings):
    torch.manual_seed(seed)
    config = Towers.Config(dim=8, **settings)
    embed = embedder(config, samples.space)
    return embed, Towers(config, embed, vectors=vectors, extra=extra).eval()


def users(embed, towers, requests):
    """As a server encodes them: all items are encoded beforehand."""
    return towers.users(
        embed, requests, towers.encode_all(embed, torch.arange(len(embed.item_ids)))
    )


@pytest.fixture(scope="module")
def requests(tiny_samples):
    """The first has no history, the last a long one."""
    rows = tiny_samples.requests("train")
    return tiny_samples.features(rows[[0, 5, 200, -1]])


@pytest.mark.parametrize("settings", CHOICES)
class TestTowers:
    def test_vectors_of_length_1(self, settings, tiny_samples, requests):
        embed, towers = build(tiny_samples, **settings)
        user_BHD, item_MD, extra_MX = towers(embed, requests, torch.tensor([3, 3, 0, 59]))
        assert user_BHD.shape == (4, 2, 8) and item_MD.shape == (4, 8) and extra_MX.shape == (4, 1)
        torch.testing.assert_close(user_BHD.norm(dim=2), torch.ones(4, 2))
        torch.testing.assert_close(item_MD.norm(dim=1), torch.ones(4))
        assert torch.equal(item_MD[0], item_MD[1])

    def test_the_same_alone_as_in_a_batch(self, settings, tiny_samples, requests):
        embed, towers = build(tiny_samples, **settings)
        whole_BHD = users(embed, towers, requests)
        for b in range(4):
            alone_BHD = users(embed, towers, requests.take(torch.tensor([b])))
            torch.testing.assert_close(alone_BHD[0], whole_BHD[b])

    def test_requests_without_any_history(self, settings, tiny_samples, requests):
        embed, towers = build(tiny_samples, **settings)
        new = requests.take(torch.tensor([0, 0]))
        assert not len(new.ragged("history.item").values)
        user_BHD, _, _ = towers(embed, new, torch.zeros(0, dtype=torch.int64))
        assert user_BHD.isfinite().all()
        user_BHD.sum().backward()
        gradients = [p.grad for p in towers.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in gradients)

    def test_no_request_at_all(self, settings, tiny_samples, requests):
        embed, towers = build(tiny_samples, **settings)
        nobody = requests.take(torch.zeros(0, dtype=torch.int64))
        assert users(embed, towers, nobody).shape == (0, 2, 8)

    def test_items_are_the_same_for_an_index(self, settings, tiny_samples, requests):
        embed, towers = build(tiny_samples, **settings)
        every = torch.arange(len(tiny_samples.space.catalogue))
        user_BHD, item_MD, extra_MX = towers(embed, requests, every)
        items = towers.encode_all(embed, every, chunk=7)
        torch.testing.assert_close(items.vector, item_MD)
        torch.testing.assert_close(items.extra, extra_MX)
        torch.testing.assert_close(towers.users(embed, requests, items), user_BHD)


@pytest.mark.parametrize("settings", CHOICES)
def test_the_compiled_way_to_user_vectors_is_the_plain_one(settings, tiny_samples, requests):
    embed, towers = build(tiny_samples, **settings)
    with torch.no_grad():
        for weight in towers.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
        items = towers.encode_all(embed, torch.arange(len(embed.item_ids)))
        got_BHD = towers.users(embed, requests, items)
        plain_BHD = towers.users(embed, requests, replace(items, tower=None))
    assert items.tower is not None
    torch.testing.assert_close(got_BHD, plain_BHD)


def test_towers_with_batch_statistics_have_the_plain_way_alone(tiny_samples):
    embed, towers = build(tiny_samples, activation="dice")
    assert towers.encode_all(embed, torch.arange(len(embed.item_ids))).tower is None


def test_only_the_newest_events_count(tiny_samples, requests):
    embed, towers = build(tiny_samples, encoder=HistoryEncoder.Config(events=2))
    last = requests.take(torch.tensor([3]))
    features = {
        name: type(column)(column.values[-2:], torch.tensor([0, 2]))
        if name.startswith("history.")
        else column
        for name, column in last.features.items()
    }
    short = type(last)(last.user, last.time_ms, features, last.group, last.exclude)
    assert len(last.ragged("history.item").values) > 2
    torch.testing.assert_close(users(embed, towers, last), users(embed, towers, short))


def test_a_user_is_near_to_what_they_took_before_anything_is_learnt(tiny_samples, requests):
    """At first the towers say little; the shortcut's mean of the history does."""
    embed, towers = build(tiny_samples, vectors=1)
    plain = build(tiny_samples, vectors=1, shortcut=False)
    last = requests.take(torch.tensor([3]))
    own = last.ragged("history.item").values.unique()
    every = torch.arange(1, len(tiny_samples.space.catalogue))

    def lead(embed, towers):
        user_BHD, item_MD, _ = towers(embed, last, every)
        score_M = item_MD @ user_BHD[0, 0]
        return score_M[own - 1].mean() - score_M.mean()

    assert lead(embed, towers) > 0.1
    assert lead(embed, towers) > 2 * abs(lead(*plain))


def test_items_are_not_alike_at_first(tiny_samples):
    embed, towers = build(tiny_samples)
    item_MD = towers.encode_all(embed, torch.arange(1, 61)).vector
    assert (item_MD @ item_MD.T).mean() < 0.3


def test_ids_of_users_are_left_out_unless_asked_for(tiny_samples):
    schema = tiny_samples.space.schema
    assert check(Towers.Config(), schema) == ("user",)
    assert check(Towers.Config(leave_out=()), schema) == ()
    assert check(Towers.Config(leave_out=("city",)), schema) == ("city",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"history": "histroy"}, "no sequence 'histroy'; did you mean 'history'"),
        ({"leave_out": ("citty",)}, "no feature 'citty'; did you mean 'city'"),
        ({"leave_out": ("item", "category", "price", "brand")}, "leave at least one"),
    ],
)
def test_mistakes_are_named(tiny_samples, settings, message):
    with pytest.raises(ConfigError, match=message):
        check(Towers.Config(**settings), tiny_samples.space.schema)
