import pytest
import torch
from pydantic import ValidationError

from headrace.data import Candidates, Ragged
from headrace.errors import ConfigError
from headrace.nn.gated import Gated, inherit
from headrace.nn.gates import Costs
from headrace.preranking.cold import Cold
from tests import tiny

TASKS = ("click", "buy")
CHOICES = [
    {},
    {"squeeze": False, "squash": False, "activation": "dice"},
    {"groups": ("exposed", "history", "price", "user_item_count"), "keep": 3},
    {"groups": ("item", "user", "hour")},
    {"groups": ("shelf",)},
]


def build(samples, seed=0, **settings):
    torch.manual_seed(seed)
    return Cold.Config.model_validate(settings, strict=False).build(samples.space, TASKS)


@pytest.mark.parametrize("settings", CHOICES)
class TestCold:
    def test_the_first_layer_made_ahead_is_the_first_layer(self, settings, tiny_samples, batch):
        model = build(tiny_samples, **settings)
        for _ in range(2):  # statistics of Dice
            model.loss(batch)
        for table in model.embed.tables.values():  # beyond what linear_log leaves as it is
            table.weight.data.mul_(40)
        model.eval()
        with torch.no_grad():
            full_NT = model(batch.requests, batch.candidates)
            model.freeze()
            ready_NT = model(batch.requests, batch.candidates)
        torch.testing.assert_close(ready_NT, full_NT, atol=1e-5, rtol=1e-4)

    def test_it_needs_no_feature_but_those_it_names(self, settings, tiny_samples, batch):
        model = build(tiny_samples, **settings)
        model.freeze()
        cross = {n: batch.candidates.features[n] for n in model.reads_cross}
        bare = Candidates(batch.candidates.item_id, cross)
        only = tiny.with_only(batch.requests, model.reads_sequences)
        scores = [model.score(batch.requests, batch.candidates), model.score(only, bare)]
        assert torch.equal(*scores)

    def test_bf16_says_nearly_the_same(self, settings, tiny_samples, batch):
        model = build(tiny_samples, **settings)
        half = build(tiny_samples, **settings, precision="bfloat16")
        model.freeze()
        half.freeze()
        scores = [m.score(batch.requests, batch.candidates) for m in (model, half)]
        torch.testing.assert_close(*scores, atol=0, rtol=1e-2)


def test_only_the_first_of_the_groups_are_kept(tiny_samples):
    model = build(tiny_samples, groups=("exposed", "city", "price", "item"), keep=2)
    assert model.groups == ["city", "exposed"]
    assert model.reads_cross == ["exposed"]
    assert model.reads_sequences == ()
    assert model.head[0].in_features == 8


def test_columns_and_rows_make_the_same_features(tiny_samples, batch):
    """All candidates of a request at once, a column at a time, against one candidate alone."""
    builder, store = tiny_samples.builder, tiny_samples.store
    row = torch.tensor([5])
    asked, found = batch.requests.take(row), batch.candidates.take_rows(row)
    names = list(batch.candidates.features)
    together = builder.candidates(asked, Candidates(found.item_id), store).features
    for n, item in enumerate(found.item_id.values):
        one = Candidates(Ragged.of([item.reshape(1)]))
        for name in names:
            alone = builder.candidates(asked, one, store, names=[name]).features
            assert list(alone) == [name]
            assert alone[name][0] == together[name][n]


def test_importance_is_the_mean_scale(tiny_samples, batch):
    model = build(tiny_samples)
    model.squeeze.weight.data.zero_()
    model.squeeze.bias.data[1] = 0.1
    with torch.no_grad():
        scale_G = model.importance(batch.requests, batch.candidates)
    assert scale_G[0] == pytest.approx(0.5)
    assert scale_G[1] == pytest.approx(torch.tensor(2.0).sigmoid().item())
    assert len(scale_G) == len(model.groups)


def test_no_scales_no_importance(tiny_samples, batch):
    model = build(tiny_samples, squeeze=False)
    with pytest.raises(ConfigError, match=r"preranking\.squeeze: must be true"):
        model.importance(batch.requests, batch.candidates)


@pytest.mark.parametrize("squeeze", [True, False])
def test_an_heir_scores_as_its_gated_parent(squeeze, tiny_samples, batch):
    model = build(tiny_samples, squeeze=squeeze, activation="dice")
    stack = model.stack()
    costs = Costs.multiplications(stack.inputs, model.config.hidden, 2)
    gated = Gated(Gated.Config(), model, costs, 10)
    gated.loss(batch)
    for each in (gated.gates.groups, *gated.gates.units):
        each.slow.data.uniform_(-6 / each.pace, 4 / each.pace)
    gated.eval()
    want_NT = model.score(batch.requests, batch.candidates)
    slim = gated.release()
    assert len(slim.kept) < len(model.groups)
    heir = model.config.slimmer(slim.kept, (), slim.hidden).build(tiny_samples.space, TASKS)
    inherit(slim, model, heir)
    heir.eval()
    got_NT = heir.score(batch.requests, batch.candidates)
    torch.testing.assert_close(got_NT, want_NT, atol=1e-6, rtol=1e-5)
    assert set(heir.groups) == set(slim.kept)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": ("item",), "keep": 2}, "keep: 2 of 1 groups; at most 1"),
        ({"keep": 2}, "keep: needs groups in the order of their importance"),
        ({"groups": ("item", "item")}, "groups: names 'item' twice"),
    ],
)
def test_settings_that_contradict_themselves(settings, message):
    with pytest.raises(ValidationError, match=message):
        Cold.Config(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": ("itm",)}, "groups: no feature 'itm'; did you mean 'item'"),
        ({"history": "past"}, "history: no sequence 'past'"),
    ],
)
def test_names_that_do_not_exist(settings, message, tiny_samples):
    with pytest.raises(ConfigError, match=message):
        build(tiny_samples, **settings)


def test_a_privileged_feature_is_refused(tiny_log):
    features = {**tiny.SCHEMA["features"], "spent": {"of": "privileged", "column": "buy"}}
    samples = tiny.samples(tiny_log, schema={**tiny.SCHEMA, "features": features})
    assert "spent" not in build(samples).groups
    with pytest.raises(ConfigError, match="'spent' is privileged, known only after the event"):
        build(samples, groups=("item", "spent"))
