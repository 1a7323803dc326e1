"""Scorers that come apart: the parts together are the plain model, alone as in a batch."""

import pytest
import torch
from torch.nn import functional as F

from headrace.config import Kinds
from headrace.data import Candidates, Ragged
from headrace.errors import ConfigError
from headrace.nn.age import age_ids
from headrace.nn.history import HistoryEncoder
from headrace.retrieval._attention import SIGHT, AttentionScorer
from headrace.retrieval._lifetime import LifelongConfig
from headrace.retrieval._ranker import RankerScorer, without_cross

SMALL = {
    "dim": 8,
    "user_hidden": (16,),
    "item_hidden": (16,),
    "encoder": HistoryEncoder.Config(dim=8, heads=2),
    "events": 6,
    "head_dim": 4,
    "hidden": (12, 6),
}
LIFELONG = LifelongConfig(hits=3, head_dim=4, value_dim=5)
KINDS = [
    {},
    {"heads": 2, "activation": "prelu", "lifelong": LIFELONG},
    {"heads": 0, "lifelong": LIFELONG, "recent": "lifetime"},
    {"heads": 0, "hidden": ()},
]
RANKERS = Kinds("headrace.ranking")


def scorer(space, **more):
    """An untrained scorer none of whose parameters is zero."""
    torch.manual_seed(0)
    made = AttentionScorer.Config(**{**SMALL, **more}).build(space).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def parts(made, requests, space, dtype=torch.float32):
    every = torch.arange(len(space.catalogue))
    with torch.no_grad():
        vector_IV = made.vectors(every)
        return every, made.rows(vector_IV).to(dtype), made.users(requests, vector_IV, dtype)


def newest(requests, sequence, b, most):
    columns = [requests.ragged(f"{sequence}.{c}")[b][-most:] for c in ("item", "type", "time_ms")]
    time_ms = columns[2]
    age = age_ids(Ragged(time_ms, torch.tensor([0, len(time_ms)])), requests.time_ms[b : b + 1])
    return columns[0], columns[1], age


def plain(made, requests, b, item, space):
    """One score by the formula, nothing folded and nothing precomputed."""
    config = made.config
    root = config.dim**0.5
    one = requests.take(torch.tensor([b]))
    user_1HV, item_1V, _ = made.towers(made.embed, one, torch.tensor([item]))
    vector = item_1V[0]
    score = vector @ user_1HV[0, 0] / config.temperature
    if not config.hidden:
        return score
    x = made.item(vector * root) + made.user(user_1HV[0, 1] * root)
    if config.heads:
        net = made.recent
        items, kind, age = newest(requests, config.recent or config.history, b, config.events)
        event_LV = root * made.vectors(items) if len(items) else torch.zeros(0, config.dim)
        told_LV = event_LV + net.side.kind[kind, 0] + net.side.age[0, age]
        for h in range(config.heads):
            of = slice(h * config.head_dim, (h + 1) * config.head_dim)
            query = F.normalize(net.query(vector * root)[of], dim=0)
            key_LQ = F.normalize(net.key(event_LV)[:, of], dim=1)
            bias_L = net.side_bias.kind[kind, 0, h] + net.side_bias.age[0, age, h]
            logit_L = net.sharpness[h] * (key_LQ @ query - 1) + bias_L
            logit_L = torch.cat([net.nothing[h : h + 1], logit_L])
            share_L = logit_L.softmax(0)
            attended = share_L[1:] @ told_LV
            weight = net.value.weight[h * len(x) : (h + 1) * len(x)]
            x = x + weight @ attended + share_L[0] * net.nothing_value[h, 0]
            x = x + logit_L.logsumexp(0) * net.count[h, 0]
    if config.lifelong is not None:
        net = made.lifelong
        items, _, age = newest(requests, config.lifelong.sequence, b, 10_000)
        same = space.catalogue.category[items] == space.catalogue.category[item]
        items, age = items[same][-config.lifelong.hits :], age[same][-config.lifelong.hits :]
        said = net.nothing
        if len(items):
            event_LV = root * made.vectors(items)
            query = F.normalize(net.query(vector * root), dim=0)
            cosine_L = F.normalize(net.key(event_LV), dim=1) @ query
            logit_L = net.sharpness * (cosine_L - 1) + net.age_bias[age]
            value_LW = net.value(event_LV) + net.age[age]
            said = torch.cat([logit_L.softmax(0) @ value_LW, logit_L.logsumexp(0, keepdim=True)])
        x = x + net.out(said)
    for layer in made.rest:
        x = layer(x.unsqueeze(0))[0]
    return score + x[0]


@pytest.mark.parametrize("more", KINDS)
def test_the_parts_together_are_the_plain_model(more, tiny_samples, requests):
    space = tiny_samples.space
    made = scorer(space, **more)
    every, row_IX, users = parts(made, requests, space)
    with torch.no_grad():
        for b in (0, 7, 19):
            score_I = made.cross(users.one(b), every, row_IX)
            for item in (1, 17, 60):
                want = plain(made, requests, b, item, space)
                torch.testing.assert_close(score_I[item], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("more", KINDS)
def test_requests_score_the_same_alone_together_and_in_training(more, tiny_samples, requests):
    space = tiny_samples.space
    made = scorer(space, **more)
    every, row_IX, users = parts(made, requests, space)
    size = len(requests)
    item_BN = every.expand(size, -1)
    with torch.no_grad():
        together_BN = made.cross(users, item_BN, row_IX.expand(size, -1, -1))
        alone_BN = torch.stack([made.cross(users.one(b), every, row_IX) for b in range(size)])
    trained, vector_UV, place_BN = made.batch(requests, item_BN)
    training_BN = made.cross(trained, item_BN, made.rows(vector_UV)[place_BN])
    torch.testing.assert_close(together_BN, alone_BN, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(training_BN, alone_BN, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("more", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_scores_as_the_cross(dtype, more, tiny_samples, requests):
    made = scorer(tiny_samples.space, **more)
    every, row_IX, users = parts(made, requests, tiny_samples.space)
    bonus_I, row_IX = torch.randn(len(every)), row_IX.to(dtype)
    asked = every.flip(0)
    with torch.no_grad():
        scores = made.fused(made.vectors(every), row_IX, bonus_I)(requests)
    for b in range(len(requests)):
        with torch.no_grad():
            want_I = made.cross(users.one(b), asked, row_IX.float()[asked]) + bonus_I[asked]
        got_I = torch.from_numpy(scores[b](asked.int().numpy()))
        torch.testing.assert_close(got_I, want_I, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("hidden", [(), (7, 3)])
def test_places_lie_apart_as_vectors_and_halves_do(hidden, tiny_samples):
    made = scorer(tiny_samples.space, hidden=hidden, heads=len(hidden[:1]))
    with torch.no_grad():
        vector_IV = made.vectors(torch.arange(20))
        place_IP = made.places(vector_IV)
        want = torch.cdist(vector_IV, vector_IV).square()
        if hidden:
            half_IH = made.rows(vector_IV)[:, : hidden[0]] * SIGHT / made.item.weight.norm()
            want = want + torch.cdist(half_IH, half_IH).square()
    got = torch.cdist(place_IP, place_IP).square()
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


def test_a_user_without_events_has_finite_scores(tiny_samples):
    first = tiny_samples.features(tiny_samples.requests("train")[:1])
    assert not len(first.ragged("history.item").values)
    made = scorer(tiny_samples.space, lifelong=LIFELONG)
    every, row_IX, users = parts(made, first, tiny_samples.space)
    with torch.no_grad():
        score_I = made.cross(users.one(0), every, row_IX)
        fused = made.fused(made.vectors(every), row_IX, torch.zeros(len(every)))
        fused_I = torch.from_numpy(fused(first)[0](every.int().numpy()))
    assert score_I.isfinite().all()
    torch.testing.assert_close(fused_I, score_I, rtol=1e-5, atol=1e-4)


def test_half_precision_is_near(tiny_samples, requests):
    made = scorer(tiny_samples.space, lifelong=LIFELONG)
    scores = []
    for dtype in (torch.float32, torch.bfloat16):
        every, row_IX, users = parts(made, requests, tiny_samples.space, dtype)
        with torch.no_grad():
            scores.append(made.cross(users.one(3), every, row_IX))
    assert scores[1].dtype == torch.float32
    assert float((scores[0] - scores[1]).abs().max()) < 0.05 * float(scores[0].std())


class TestRanker:
    def test_scores_are_the_rankers_logits(self, tiny_samples, requests):
        space = without_cross(tiny_samples.space)
        torch.manual_seed(0)
        ranker = RANKERS.find("din").Config().build(space, ("click", "buy"))
        made = RankerScorer(ranker, "click")
        made.freeze()
        every, row_IX, users = parts(made, requests, space)
        assert row_IX.shape[1] == 0
        alone = requests.take(torch.tensor([4]))
        listed = Candidates(Ragged.of([every]))
        with torch.no_grad():
            want_I = ranker(alone, listed)[:, 0]
            torch.testing.assert_close(made.cross(users.one(4), every, row_IX), want_I)

    def test_a_ranker_that_reads_cross_features_is_refused(self, tiny_samples):
        ranker = RANKERS.find("din").Config().build(tiny_samples.space, ("buy",))
        with pytest.raises(
            ConfigError, match=r"cross feature 'user_item_count'.*train one without"
        ):
            RankerScorer(ranker, "buy")

    def test_a_ranker_that_reads_hits_is_refused(self, tiny_samples):
        settings = RankerScorer.Config(ranker=RANKERS.find("sim").Config())
        with pytest.raises(ConfigError, match="hits of each candidate"):
            settings.build(tiny_samples.space)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"recent": "resent"}, "recent: no sequence 'resent'"),
        ({"lifelong": LifelongConfig(sequence="life")}, "lifelong.sequence: no sequence 'life'"),
        ({"history": "hist"}, "no sequence 'hist'; did you mean 'history'"),
    ],
)
def test_sequences_must_exist(more, message, tiny_samples):
    with pytest.raises(ConfigError, match=message):
        AttentionScorer.Config(**{**SMALL, **more}).check(tiny_samples.space.schema)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"activation": "dice"}, "batch statistics"), ({"hidden": ()}, "attention needs a net")],
)
def test_settings_that_cannot_be_searched_are_refused(more, message):
    with pytest.raises(ValueError, match=message):
        AttentionScorer.Config(**{**SMALL, **more})
