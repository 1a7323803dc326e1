"""How many candidates the coarse step of two must leave: as few as lose little."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tomli_w
import torch

from ..bundle import Bundle, rewrite
from ..errors import ConfigError
from ..evaluation import lists, metrics
from ..evaluation.consistency import FAVOURITES
from ..ops import ragged
from ..pipeline.train import Step
from ..preranking.two_step import RETRIEVAL, TwoStep
from ..run import Run
from ..samples import Samples
from ..serving.cascade import Cascade
from ..stages import Narrowing
from .costing import Request, median_ms
from .yardstick import KEPT, Asked, Yardstick

GRID = 40  # sizes that are tried


@dataclass(frozen=True, slots=True)
class Stepped:
    """The fine step behind ``keep`` candidates, beside the fine step on all."""

    keep: int
    hit: float  # share of the ranker's first 10 among its own first 50
    of_whole: float  # that, over the hit without a coarse step


@dataclass(frozen=True, slots=True)
class Fitted:
    """The size to take, what was tried, and what a request costs."""

    candidates: int  # that retrieval found, in the mean
    whole_hit: float  # without a coarse step
    tried: tuple[Stepped, ...]
    best: Stepped
    ms: float  # both steps
    whole_ms: float  # the fine step on all

    @property
    def cost(self) -> float:
        """Share of the cost of the fine step on all."""
        return self.ms / self.whole_ms


def publish(run: Run, target: float, retrieval: int | None, step: Step) -> tuple[Fitted, str]:
    """Fit ``keep`` for a run's bundle, and publish it with that size; also its version.

    ``retrieval`` is how many items are found, by default as configured. Raises ConfigError if the
    pre-ranker has no steps or the target is no share.
    """
    if not 0 < target <= 1:
        raise ConfigError(f"--target {target:g}: a share of the hit, above 0 and at most 1")
    with step("load"):
        bundle = Bundle.open(run.bundle_path)
        bundle.check_schema(run.app.schema_)
        kind = bundle.app.preranking.kind
        cascade = bundle.assemble(run.log())
        model = cascade.preranker
        if not isinstance(model, TwoStep):
            raise ConfigError(
                f'{run.bundle_path}: its pre-ranker is {kind!r}: only "two_step" has steps to fit'
            )
        samples = run.samples(cascade.builder.space)
        quota = dict(bundle.app.allocation.quota)
        quota["retrieval"] = retrieval or quota["retrieval"]
    with step("measure"):
        found = fit(model, Yardstick.of(cascade, quota, samples).asked, samples, target)
    raw = tomllib.loads((bundle.path / "config.toml").read_text())
    raw["preranking"]["keep"] = found.best.keep
    text = (
        f"# as trained, but for preranking.keep, by `headrace prerank steps`\n{tomli_w.dumps(raw)}"
    )
    return found, rewrite(run.bundle_path, bundle, {}, text=text).version


def fit(model: TwoStep, asked: Sequence[Asked], samples: Samples, target: float) -> Fitted:
    """The smallest ``keep`` that leaves ``target`` of the hit of the fine step on all."""
    whole = metrics.mean(np.concatenate([each.hit(model) for each in asked]))
    lengths = torch.cat([each.found.item_id.lengths for each in asked]).double()
    sizes = torch.linspace(0, float(lengths.max()), GRID + 1)[1:].ceil().long().unique()
    tried: list[Stepped] = []
    for keep in sizes.tolist():
        hit = metrics.mean(np.concatenate([stepped_hit(each, model, keep) for each in asked]))
        tried.append(Stepped(keep, hit, hit / max(whole, 1e-9)))
    best = next((each for each in tried if each.of_whole >= target), tried[-1])
    found = round(float(lengths.mean()))
    ms, whole_ms = _cost_ms(model, asked[0].cascade, samples, found, best.keep)
    return Fitted(found, whole, tuple(tried), best, ms, whole_ms)


def stepped_hit(asked: Asked, model: Narrowing, keep: int) -> metrics.Floats:
    """Share of the ranker's favourites among the first ``KEPT`` of two steps."""
    found, cascade = asked.found, asked.cascade
    rough_N = cascade.worth(model.coarse_score(asked.requests, found), found)
    left = ragged.top(rough_N, found.item_id.offsets, torch.full((len(asked.requests),), keep))
    out_N = torch.ones(len(found), dtype=torch.bool).index_fill(0, left, value=False)
    fine_N = cascade.worth(model.score(asked.requests, found), found).masked_fill(out_N, -torch.inf)
    agreed = lists.agreement(fine_N, asked.fine_N, found.item_id.offsets, FAVOURITES)
    return agreed.recall(min(KEPT, keep))


def _cost_ms(
    model: TwoStep, cascade: Cascade, samples: Samples, found: int, keep: int
) -> tuple[float, float]:
    """Of a request in two steps, and of the fine one on everything; cut and features included."""
    every, some = Request.of(samples, found), Request.of(samples, keep)
    chance_N1 = torch.rand(len(every.found), 1, generator=torch.Generator().manual_seed(1))
    merged = every.found.scored(RETRIEVAL, chance_N1)
    keep_B = torch.tensor([keep])
    cut_ms = median_ms(lambda: cascade.cut_coarsely(model, every.requests, merged, keep_B))
    return cut_ms + some.speed(model.fine).ms, every.speed(model.fine).ms
