"""A planted world in which dwell time tells what ends in a purchase, but only after the event.

Whether a view engages decides the purchase and shows in its dwell time, which also grows with the
patience of the user and the length of the item. Students are judged by the AUC that true
probabilities give them; which weight of a teacher suits one, by the labels of other requests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import _auction
from benchmarks import preranking_planted as planted
from headrace.data import Batch
from headrace.evaluation import metrics
from headrace.nn.pointwise import Pointwise
from headrace.preranking.cold import Cold
from headrace.samples.taught import TEACHER
from headrace.training.distill import Distilled

FEATURES, VALUES, BUCKETS = 5, 16, 16  # of users and of items, of each, of dwell
SEPARATION, CONFOUNDED = 4.0, 1.2  # of log dwell: engaged or not, by user and by item; noise: 1
ENGAGED, IDLE = 0.25, 0.02  # chance of a purchase
RATE = 4e-3  # of learning: the planted trainings are short
HIDDEN, LARGER = (32,), (128, 64)
UNTAUGHT = ("base", "oracle")


class Way(NamedTuple):
    """A way of teaching."""

    name: str
    scheme: str  # of distillation, or one of UNTAUGHT
    joint: bool = False  # the teacher learns along


class Outcome(NamedTuple):
    """How good the student is, and the weight of its teacher."""

    quality: float
    weight: float | None = None


@dataclasses.dataclass(frozen=True)
class DwellWorld:
    """A planted world and how likely each purchase was."""

    made: planted.Planted
    valid: Batch
    test: Batch
    train_N: Tensor
    test_N: Tensor


def dwell_world(seed: int, requests: int) -> DwellWorld:
    """Views engage by tastes; engaged ones last longer and end in purchases."""
    made = torch.Generator().manual_seed(seed)
    rows = requests * planted.EACH

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=made)

    def ids(size: int, of: str) -> dict[str, Tensor]:
        return {
            f"{of}{i}": torch.randint(1, VALUES + 1, (size,), generator=made)
            for i in range(FEATURES)
        }

    item_N = torch.randint(1, planted.ITEMS, (rows,), generator=made)
    draws = planted.Draws(ids(requests, "u"), ids(planted.ITEMS, "i"), {}, item_N)
    taste_N = torch.zeros(rows)
    for i in range(FEATURES):
        user_N, own_N = draws.spread(f"u{i}"), draws.spread(f"i{i}")
        taste_N += 0.5 * normal(VALUES + 1)[user_N] + 0.5 * normal(VALUES + 1)[own_N]
        taste_N += 0.4 * normal(VALUES + 1, VALUES + 1)[user_N, own_N]
    engages_N = taste_N.sigmoid()
    engaged_N = torch.rand(rows, generator=made) < engages_N
    log_dwell_N = SEPARATION * engaged_N + normal(rows)
    log_dwell_N += CONFOUNDED * normal(VALUES + 1)[draws.spread("u0")]
    log_dwell_N += CONFOUNDED * normal(VALUES + 1)[draws.spread("i0")]
    buys_N = torch.where(engaged_N, ENGAGED, IDLE)
    label_N = torch.rand(rows, generator=made) < buys_N
    edges = log_dwell_N.quantile(torch.linspace(0, 1, BUCKETS + 1)[1:-1])
    dwell_N = 1 + torch.bucketize(log_dwell_N, edges)
    world = planted.laid_out(
        draws._replace(privileged={"dwell": dwell_N}), label_N, max(VALUES, BUCKETS), 8
    )
    truth_N = ENGAGED * engages_N + IDLE * (1 - engages_N)
    valid, test = (_auction.some(world.test, rows) for rows in _halves(len(world.test.requests)))
    train_N = truth_N[: len(world.train.candidates)]
    return DwellWorld(world, valid, test, train_N, truth_N[-len(test.candidates) :])


def _halves(size: int) -> tuple[Tensor, ...]:
    return torch.arange(size).tensor_split(2)


def expected_auc(truth_N: Tensor, score_N: Tensor) -> float:
    """AUC over all outcomes that these probabilities may have."""
    label_N = torch.cat([torch.ones_like(truth_N), torch.zeros_like(truth_N)])
    return metrics.auc(label_N, score_N.repeat(2), torch.cat([truth_N, 1 - truth_N]))


def taught(world: DwellWorld, way: Way, seed: int, epochs: int, weight: float = 0.5) -> Pointwise:
    """A student of the planted world: ``base``, ``oracle``, or by a scheme of distillation."""
    scheme = way.scheme
    space, data, tasks = world.made.space, world.made.train, ("click",)
    steps = epochs * len(planted.Pieces(data))

    def build(config: Cold.Config, *names: str) -> Pointwise:
        torch.manual_seed(seed)
        return config.build(space.revealed(names), tasks)

    student = build(Cold.Config(hidden=HIDDEN))
    if scheme == "base":
        planted.train(student, data, epochs, learning_rate=RATE)
        return student
    if scheme == "oracle":
        said = dataclasses.replace(data.candidates, scores={TEACHER: world.train_N.unsqueeze(1)})
        config = Distilled.Config(weight=1, warm_up=0, ramp=1e-6)
        known = dataclasses.replace(data, candidates=said)
        planted.train(Distilled(config, student, None, steps), known, epochs, learning_rate=RATE)
        return student
    names = () if scheme == "md" else ("dwell",)
    hidden = LARGER if "md" in scheme else HIDDEN
    teacher = build(Cold.Config(hidden=hidden, groups=names if scheme == "lupi" else ()), *names)
    if not way.joint:
        planted.train(teacher, data, epochs, learning_rate=RATE)
        teacher.freeze()
    config = Distilled.Config.model_validate(
        {"scheme": scheme, "joint": way.joint, "weight": weight}
    )
    planted.train(Distilled(config, student, teacher, steps), data, epochs, learning_rate=RATE)
    return student


def one(
    seed: int, requests: int, epochs: int, weights: Sequence[float], ways: Iterable[Way]
) -> dict[str, Outcome]:
    """AUC of the student by every way of teaching it, each by the weight that suits it."""
    world = dwell_world(seed, requests)
    base = taught(world, Way("base", "base"), seed, epochs)
    out: dict[str, Outcome] = {}
    for way in ways:
        if way.scheme in UNTAUGHT:
            model, weight = taught(world, way, seed, epochs), None
        else:
            tried = [(taught(world, way, seed, epochs, w) if w else base, w) for w in weights]
            model, weight = max(tried, key=lambda each: planted.auc(each[0], world.valid))
        out[way.name] = Outcome(quality(model, world), weight)
    return out


def quality(model: Pointwise, world: DwellWorld) -> float:
    """Expected AUC on the requests kept for the end."""
    score_N = model.eval().score(world.test.requests, world.test.candidates)[:, 0]
    return expected_auc(world.test_N, score_N)
