"""A planted auction of many markets: where clicks are rare they are dear; and a ranker that knows.

A market's bids rise as its clicks get fewer, so that all markets win slots, but the errors of a
small probability count for little in a loss of probabilities, and for as much as others in p · bid.
The ranker knows the truth and orders by ``p · bid``. Pre-rankers of one small form see users and
items, not the pairs that matter, and so cannot say all of p: by what they are taught depends where
they err. ``labels`` learns clicks, ``mse`` the ranker's probabilities of every candidate (the usual
distillation of scores), ``copr`` and ``listwise`` clicks and the ranker's order,
``lambda_cascade`` the order alone, by trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headrace.data import Batch, Candidates, Ragged, Requests
from headrace.evaluation.consistency import Orders, consistency
from headrace.features import Catalogue, FeatureSpace
from headrace.features.encoders import Vocabulary
from headrace.nn.pointwise import Pointwise
from headrace.ops import ragged
from headrace.ops.grades import grades
from headrace.pipeline.alignment import draw
from headrace.preranking._ranked import BID, GRADE, RANKED, WORTH, RankedConfig
from headrace.preranking.cold import Cold
from headrace.preranking.copr import Copr
from headrace.preranking.lambda_cascade import LambdaCascade
from headrace.preranking.listwise import Listwise
from headrace.schema import Schema
from headrace.training import Training, fit

ITEMS, VALUES, LIST = 2_000, 12, 100
DEAREST = 2.0  # a click of the dearest market is worth e^2 of the middle one, and as much rarer
SIZE = 50  # requests of a batch


@dataclass(frozen=True)
class Auction:
    """Lists of candidates, each the ranker's best first."""

    space: FeatureSpace
    train: Batch
    test: Batch
    p_N: Tensor  # of the training candidates


def world(seed: int, requests: int) -> Auction:
    """Users and items of eight features; clicks by single features and by pairs of them."""
    made = torch.Generator().manual_seed(seed)
    rows = requests * LIST

    def ids(size: int, of: str) -> dict[str, Tensor]:
        return {f"{of}{i}": torch.randint(1, VALUES + 1, (size,), generator=made) for i in range(4)}

    user, item = ids(requests, "u"), ids(ITEMS, "i")
    item_N = torch.randint(1, ITEMS, (rows,), generator=made)
    user_N = torch.arange(requests).repeat_interleave(LIST)
    logit_N = torch.full((rows,), -2.5)
    for u, i in zip(user.values(), item.values(), strict=True):
        left_N, right_N = u[user_N], i[item_N]
        both = torch.randn(VALUES + 1, VALUES + 1, generator=made)
        logit_N += 0.6 * both[left_N, right_N]
        for each_N in (left_N, right_N):
            logit_N += 0.3 * torch.randn(VALUES + 1, generator=made)[each_N]
    dear_I = torch.linspace(-DEAREST, DEAREST, VALUES)[item["i0"] - 1]
    p_N = (logit_N - dear_I[item_N]).sigmoid()
    bid_N = (dear_I + 0.5 * torch.randn(ITEMS, generator=made)).exp()[item_N]
    offsets = torch.arange(requests + 1) * LIST
    order_N = ragged.top(p_N * bid_N, offsets, torch.full((requests,), LIST))
    item_N, p_N, bid_N = item_N[order_N], p_N[order_N], bid_N[order_N]
    grade_N = grades(p_N * bid_N, offsets).float()
    scores = {WORTH: p_N * bid_N, BID: bid_N, GRADE: grade_N, RANKED: p_N}
    clicked_N = torch.rand(rows, generator=made) < p_N
    nothing = Ragged(
        torch.zeros(0, dtype=torch.int64), torch.zeros(requests + 1, dtype=torch.int64)
    )
    past = {f"history.{column}": nothing for column in ("item", "type", "time_ms")}
    zero = torch.zeros(requests, dtype=torch.int64)
    whole = Batch(
        Requests(zero, zero + 1, {**user, **past}, zero - 1, nothing),
        Candidates(Ragged(item_N, offsets), {}, {k: v.unsqueeze(1) for k, v in scores.items()}),
        {"click": clicked_N.float()},
        torch.ones(rows),
        zero[:0],
    )
    features = {n: {"of": s} for s, side in (("user", user), ("item", item)) for n in side}
    schema = Schema.model_validate({"default_dim": 4, "features": features})
    encoder = Vocabulary(tuple(map(str, range(VALUES))))
    available = torch.arange(ITEMS) > 0
    catalogue = Catalogue(item, {}, torch.zeros(ITEMS, dtype=torch.int64), available)
    space = FeatureSpace(schema, dict.fromkeys(features, encoder), catalogue, ("click",))
    cut = requests * 3 // 4
    first, rest = torch.arange(cut), torch.arange(cut, requests)
    return Auction(space, some(whole, first), some(whole, rest), p_N[: cut * LIST])


def some(whole: Batch, rows: Tensor) -> Batch:
    """Some of the requests."""
    at_N = whole.candidates.item_id.with_values(torch.arange(len(whole.candidates)))
    at_N = at_N.take_rows(rows).values
    found = whole.candidates.take_rows(rows)
    labels = {task: label_N[at_N] for task, label_N in whole.labels.items()}
    return Batch(whole.requests.take(rows), found, labels, whole.weight[at_N], whole.pool)


@dataclass(frozen=True)
class Auctions:
    """Batches of clicks; with a config that learns an order, batches of its lists between them."""

    whole: Batch
    config: RankedConfig | None = None

    def __len__(self) -> int:
        return -(-len(self.whole.requests) // SIZE) * (2 if self.config else 1)

    def epoch(self, e: int, start: int = 0) -> Iterator[Batch]:
        rng = np.random.default_rng(e)
        order = torch.from_numpy(rng.permutation(len(self.whole.requests)))
        for step, rows in enumerate(order.split(SIZE)):
            batch = some(self.whole, rows)
            parts = [replace(batch, candidates=replace(batch.candidates, scores={}))]
            if self.config is not None:
                parts.append(drawn(batch, self.config, rng))
            for at, part in enumerate(parts):
                if step * len(parts) + at >= start:
                    yield part


def drawn(batch: Batch, config: RankedConfig, rng: np.random.Generator) -> Batch:
    """The candidates of a ranked list that one step learns from."""
    found = batch.candidates.take(draw(config, batch.candidates.item_id, rng))
    return replace(batch, candidates=found, labels={}, weight=torch.ones(len(found)))


class Regressed(nn.Module):
    """Learns the ranker's probabilities, given as labels, by squared error."""

    def __init__(self, model: Pointwise) -> None:
        super().__init__()
        self.model = model

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        p_N = self.model(batch.requests, batch.candidates)[:, 0].sigmoid()
        return {"click": F.mse_loss(p_N, batch.labels["click"])}


def hits(seed: int, requests: int, epochs: int) -> dict[str, dict[str, float]]:
    """How much of the ranker's ten best of 100 is among the ten that each pre-ranker keeps."""
    auction = world(seed, requests)
    small = Cold.Config(hidden=(16,), squeeze=False)
    told = replace(auction.train, labels={"click": auction.p_N})
    taught: dict[str, tuple[Cold.Config | RankedConfig, Auctions]] = {
        "labels": (small, Auctions(auction.train)),
        "mse": (small, Auctions(told)),
    }
    for aligned in (Copr.Config(model=small), Listwise.Config(model=small)):
        taught[aligned.kind] = aligned, Auctions(auction.train, aligned)
    out: dict[str, dict[str, float]] = {}
    for name, (config, batches) in taught.items():
        torch.manual_seed(seed)
        model = config.build(auction.space, ("click",))
        learner = Regressed(model) if name == "mse" else model
        alike = epochs * (1 if batches.config else 2)  # as many steps for all
        fit(learner, batches, Training(epochs=alike, table_learning_rate=0.05))
        out[name] = judged(model, auction.test)
    forest = LambdaCascade.Config().build(auction.space, ("click",))
    whole, rng = auction.train, np.random.default_rng(seed)
    rows = torch.arange(len(whole.requests)).split(SIZE)
    forest.grow([drawn(some(whole, part), forest.config, rng) for part in rows])
    return out | {"lambda_cascade": judged(forest, auction.test)}


def judged(model: Pointwise, test: Batch) -> dict[str, float]:
    """How a pre-ranker's order by ``p · bid`` agrees with the ranker's."""
    model.eval()
    found = test.candidates
    bid_N, worth_N = found.scores[BID][:, 0], found.scores[WORTH][:, 0]
    rough_N = model.score(test.requests, found)[:, 0] * bid_N
    nothing = Ragged.of([torch.zeros(0, dtype=torch.int64)] * len(test.requests))
    numbered = found.item_id.with_values(torch.arange(len(found)))
    agreed = consistency(Orders(rough_N, worth_N, numbered, nothing), {})
    return {
        "hit": agreed["at"]["10"]["hit"] or 0.0,
        "worth_hit": agreed["at"]["10"]["worth_hit"] or 0.0,
        "worth_hit_of_20": agreed["at"]["20"]["worth_hit"] or 0.0,
        "tau": agreed["tau"] or 0.0,
    }
