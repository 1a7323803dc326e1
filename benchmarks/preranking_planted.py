"""What COLD and gates find in planted worlds: interaction, groups that matter, what each costs.

    python -m benchmarks.preranking_planted [--seeds 3] [--requests 6000] [--epochs 3]

``interaction``: the label depends on the pair of a user's and an item's bucket alone; COLD beside
the vector product. ``importance``: 10 of 40 groups matter; how many are among COLD's ten most
important. ``gates``: the same groups, half of them four times as dear; what gates keep, what is
left of the multiplications, and the AUC and time of the slim network beside the whole one.
``auction``: pre-rankers that learn scores or order from a ranker that knows, see ``_auction.py``;
the share, by worth, of the ranker's ten best among their own ten first of 100.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import _auction, _common
from headrace.data import Batch, Candidates, Ragged, Requests
from headrace.evaluation import metrics
from headrace.features import Catalogue, FeatureSpace
from headrace.features.encoders import Vocabulary
from headrace.nn.gated import Gated, inherit
from headrace.nn.gates import Costs
from headrace.nn.pointwise import Pointwise
from headrace.preranking.cold import Cold
from headrace.preranking.vector import Vector
from headrace.schema import Schema
from headrace.training import Training, fit
from headrace.training.distill import Distilled

GROUPS, INFORMATIVE = 40, 10
VALUES = 8  # of a feature
ITEMS = 2_000
EACH = 10  # candidates of a request
DEAR = 4.0  # how much dearer than the others half of the groups are
SIZE = 50  # requests of a batch


@dataclass(frozen=True)
class Planted:
    """A world that is known."""

    space: FeatureSpace
    train: Batch
    test: Batch
    informative: tuple[str, ...] = ()
    dear: tuple[str, ...] = ()
    twins: tuple[tuple[str, str], ...] = ()  # cheap and dear


@dataclass(frozen=True)
class Pieces:
    """Batches of so many requests, shuffled each epoch."""

    whole: Batch
    size: int = SIZE

    def __len__(self) -> int:
        return -(-len(self.whole.requests) // self.size)

    def epoch(self, e: int, start: int = 0) -> Iterator[Batch]:
        order = torch.from_numpy(np.random.default_rng(e).permutation(len(self.whole.requests)))
        for rows in order.split(self.size)[start:]:
            yield _auction.some(self.whole, rows)


class Draws(NamedTuple):
    """Ids of features by side, and of what they are of."""

    user: dict[str, Tensor]  # (B,)
    item: dict[str, Tensor]  # (I,)
    cross: dict[str, Tensor]  # (N,)
    item_N: Tensor
    privileged: Mapping[str, Tensor] = MappingProxyType({})  # (N,)

    def spread(self, name: str) -> Tensor:
        """A feature's id of every candidate."""
        if name in self.user:
            return self.user[name].repeat_interleave(EACH)
        return self.item[name][self.item_N] if name in self.item else self.cross[name]


def laid_out(draws: Draws, label_N: Tensor, values: int, dim: int, **known: Any) -> Planted:
    """Draws as a space, and their rows cut in two."""
    sides = {
        "user": draws.user,
        "item": draws.item,
        "cross": draws.cross,
        "privileged": draws.privileged,
    }
    features = {name: {"of": side} for side, columns in sides.items() for name in columns}
    schema = Schema.model_validate({"default_dim": dim, "features": features})
    encoder = Vocabulary(tuple(map(str, range(values))))
    available = torch.arange(ITEMS) > 0
    catalogue = Catalogue(draws.item, {}, torch.zeros(ITEMS, dtype=torch.int64), available)
    space = FeatureSpace(schema, dict.fromkeys(features, encoder), catalogue, ("click",))
    size = len(draws.item_N) // EACH
    nothing = Ragged(torch.zeros(0, dtype=torch.int64), torch.zeros(size + 1, dtype=torch.int64))
    past = {f"history.{column}": nothing for column in ("item", "type", "time_ms")}
    zero = torch.zeros(size, dtype=torch.int64)
    whole = Batch(
        Requests(zero, zero + 1, {**draws.user, **past}, zero - 1, nothing),
        Candidates(Ragged.sized(draws.item_N, zero + EACH), {**draws.cross, **draws.privileged}),
        {"click": label_N.float()},
        torch.ones(len(label_N)),
        zero[:0],
    )
    cut = size * 3 // 4
    return Planted(
        space,
        _auction.some(whole, torch.arange(cut)),
        _auction.some(whole, torch.arange(cut, size)),
        **known,
    )


def groups_world(seed: int, requests: int) -> Planted:
    """Forty features of users, items and pairs; ten of them make the label, in pairs and alone."""
    made = torch.Generator().manual_seed(seed)

    def ids(size: int, count: int, of: str) -> dict[str, Tensor]:
        return {
            f"{of}{i}": torch.randint(1, VALUES + 1, (size,), generator=made) for i in range(count)
        }

    rows = requests * EACH
    draws = Draws(
        ids(requests, 14, "u"),
        ids(ITEMS, 13, "i"),
        ids(rows, 13, "x"),
        torch.randint(1, ITEMS, (rows,), generator=made),
    )
    names = [*draws.user, *draws.item, *draws.cross]
    order = torch.randperm(GROUPS, generator=made).tolist()
    informative = [names[i] for i in order[:INFORMATIVE]]
    dear = [names[i] for i in order[::2]]
    logit_N = torch.zeros(rows)
    for name in informative:
        logit_N += 0.45 * torch.randn(VALUES + 1, generator=made)[draws.spread(name)]
    for a, b in zip(informative[::2], informative[1::2], strict=True):
        both = torch.randn(VALUES + 1, VALUES + 1, generator=made)
        logit_N += 0.45 * both[draws.spread(a), draws.spread(b)]
    label_N = torch.rand(rows, generator=made) < (logit_N - 1).sigmoid()
    return laid_out(draws, label_N, VALUES, 8, informative=tuple(informative), dear=tuple(dear))


def twins_world(seed: int, requests: int) -> Planted:
    """Three features that tell, each there twice: cheap and dear."""
    made = torch.Generator().manual_seed(seed)
    rows = requests * EACH
    ids = [torch.randint(1, VALUES + 1, (rows,), generator=made) for _ in range(3)]
    cross = {f"{kind}{i}": ids[i] for i in range(3) for kind in ("cheap", "dear")}
    item = {"i": torch.randint(1, VALUES + 1, (ITEMS,), generator=made)}
    user = {"u": torch.randint(1, VALUES + 1, (requests,), generator=made)}
    logit_N = sum(torch.randn(VALUES + 1, generator=made)[each] for each in ids)
    label_N = torch.rand(rows, generator=made) < torch.as_tensor(logit_N).sigmoid()
    draws = Draws(user, item, cross, torch.randint(1, ITEMS, (rows,), generator=made))
    twins = tuple((f"cheap{i}", f"dear{i}") for i in range(3))
    dear = tuple(each for _, each in twins)
    return laid_out(draws, label_N, VALUES, 8, dear=dear, twins=twins)


def interaction_world(seed: int, requests: int) -> Planted:
    """A user's and an item's bucket each say nothing; their pair says all.

    As many buckets as make each pair occur five times: of pairs seen often, towers learn each.
    """
    buckets = math.isqrt(requests * EACH // 5)
    made = torch.Generator().manual_seed(seed)
    rows = requests * EACH
    user = torch.randint(1, buckets + 1, (requests,), generator=made)
    item = torch.randint(1, buckets + 1, (ITEMS,), generator=made)
    item_N = torch.randint(1, ITEMS, (rows,), generator=made)
    pair_N = user.repeat_interleave(EACH) * buckets + item[item_N] - buckets
    draws = Draws({"u": user}, {"i": item}, {"pair": pair_N}, item_N)
    chance_P = torch.where(torch.rand(buckets**2 + 1, generator=made) < 0.5, 0.85, 0.15)
    return laid_out(draws, torch.rand(rows, generator=made) < chance_P[pair_N], buckets**2, 16)


def train(model: Pointwise | Gated | Distilled, data: Batch, epochs: int, **settings: Any) -> None:
    """Train a model on a planted batch."""
    given = {"epochs": epochs, "table_learning_rate": 0.05, **settings}
    fit(model, Pieces(data), Training.model_validate(given))


def auc(model: Pointwise, data: Batch) -> float:
    """Over all candidates."""
    score_N = model.eval().score(data.requests, data.candidates)[:, 0]
    return metrics.auc(data.labels["click"], score_N)


def interaction(seed: int, requests: int, epochs: int) -> dict[str, float]:
    """AUC of COLD and of the vector product where only pairs tell."""
    world = interaction_world(seed, requests)
    out: dict[str, float] = {}
    for name, config in {"vector": Vector.Config(), "cold": Cold.Config()}.items():
        torch.manual_seed(seed)
        model = config.build(world.space, ("click",))
        train(model, world.train, epochs)
        out[name] = auc(model, world.test)
    return out


def importance(world: Planted, seed: int, epochs: int) -> float:
    """Share of the informative groups among COLD's ten most important."""
    torch.manual_seed(seed)
    model = Cold.Config().build(world.space, ("click",))
    train(model, world.train, epochs)
    with torch.no_grad():
        scale_G = model.importance(world.test.requests, world.test.candidates)
    best = [model.groups[g] for g in scale_G.argsort(descending=True)[:INFORMATIVE]]
    return len(set(best) & set(world.informative)) / INFORMATIVE


class Outcome(NamedTuple):
    """What gates did to a model."""

    kept: tuple[str, ...]
    hidden: tuple[int, ...]
    removed: float  # share of the multiplications
    before: float  # AUC
    after: float
    speedup: float  # of scoring


def gates(
    world: Planted, seed: int, epochs: int, budget: float, hidden: tuple[int, ...]
) -> Outcome:
    """Train whole, train under gates, slim, fine-tune."""
    config = Cold.Config(hidden=hidden, squeeze=False)
    torch.manual_seed(seed)
    model = config.build(world.space, ("click",))
    train(model, world.train, epochs)
    before = auc(model, world.test)
    plain = Costs.multiplications(model.stack().inputs, hidden, 1)
    fetch = [DEAR if name in world.dear else 1.0 for name in model.groups]
    scale = plain.full / sum(fetch)  # in all, features cost as much as layers
    costs = Costs(torch.tensor(fetch) * scale, plain.first_G, plain.deeper)
    gated = Gated(Gated.Config(budget=budget), model, costs, epochs * len(Pieces(world.train)))
    train(gated, world.train, epochs)
    slim = gated.release()
    heir = config.slimmer(slim.kept, (), slim.hidden).build(world.space, ("click",))
    inherit(slim, model, heir)
    train(heir, world.train, 1)
    left = Costs.multiplications(heir.stack().inputs, slim.hidden, 1)
    after = auc(heir, world.test)
    return Outcome(
        slim.kept,
        slim.hidden,
        1 - left.full / plain.full,
        before,
        after,
        _speed(model, world.test) / _speed(heir, world.test),
    )


def _speed(model: Pointwise, data: Batch) -> float:
    """Median ms of scoring a batch as it is served, at its first 2,000 candidates, on one thread.

    By the processor's clock: work beside this stops the longer of two computations more often.
    """
    model.freeze()
    some = _auction.some(data, torch.arange(2_000 // EACH))
    requests, found = some.requests, some.candidates
    times = _common.times_ms(lambda: model.score(requests, found), 20, time.process_time)
    return float(np.median(times))


def one(seed: int, requests: int, epochs: int, budget: float) -> dict[str, float]:
    """Every figure of one seed."""
    pairs = interaction(seed, requests, epochs)
    world = groups_world(seed, requests)
    telling = set(world.informative)
    out = {
        "interaction_vector": pairs["vector"],
        "interaction_cold": pairs["cold"],
        "precision_at_10": importance(world, seed, epochs),
    }
    hits = _auction.hits(seed, requests * 5 // 12, epochs)
    done = gates(world, seed, epochs, budget, (256, 128))
    kept = set(done.kept)
    return out | {
        "informative_kept": len(kept & telling) / INFORMATIVE,
        "noise_kept": len(kept - telling) / (GROUPS - INFORMATIVE),
        "flops_removed": done.removed,
        "auc_before": done.before,
        "auc_after": done.after,
        "auc_loss": done.before - done.after,
        "speedup": done.speedup,
        **{f"auction_{name}": each["worth_hit"] for name, each in hits.items()},
    }


def main() -> None:
    """Print a line a seed and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--requests", type=int, default=6_000, help="of ten candidates each")
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--budget", type=float, default=0.15, help="share of the cost")
    given = options.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, float]] = []
    for seed in range(1, given.seeds + 1):
        rows.append(one(seed, given.requests, given.epochs, given.budget))
        line = ", ".join(f"{key} {value:.3f}" for key, value in rows[-1].items())
        print(f"seed {seed}: {line}", flush=True)
    figures = {
        key: {
            "mean": round(float(np.mean([row[key] for row in rows])), 4),
            "range": [round(f(row[key] for row in rows), 4) for f in (min, max)],
        }
        for key in rows[0]
    }
    settings = {key: getattr(given, key) for key in ("seeds", "requests", "epochs", "budget")}
    _common.finish("preranking_planted", {**settings, **figures}, save=given.save)


if __name__ == "__main__":
    main()
