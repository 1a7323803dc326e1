"""The models of the trade-off table, and how they are trained again from other seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from headrace.app import App
from headrace.nn.pointwise import Pointwise
from headrace.pipeline.alignment import learn_order
from headrace.preranking.cold import Cold
from headrace.preranking.copr import Copr
from headrace.preranking.lambda_cascade import LambdaCascade
from headrace.preranking.listwise import Listwise
from headrace.run import Run
from headrace.serving.cascade import Cascade
from headrace.training import Trainer
from headrace.tuning.schooling import Builds, Schooling
from headrace.tuning.yardstick import Yardstick

#: Pre-rankers that learn the ranker's order, over what each has by default.
ORDERS = {
    "lambda_cascade": LambdaCascade.Config(),
    "copr": Copr.Config(),
    "listwise": Listwise.Config(),
}


@dataclass(frozen=True)
class Point:
    """One model of the table."""

    name: str
    gauc: float
    hit: float
    rows_per_s: float
    ms: float
    seeds: tuple[tuple[float, float], ...] = ()  # GAUC and hit from every seed, if several

    @classmethod
    def of(cls, name: str, model: Pointwise, yardstick: Yardstick) -> Point:
        """Measure a frozen model."""
        quality, speed = yardstick.quality(model), yardstick.speed(model)
        return cls(name, quality.gauc, quality.hit, speed.rows_per_s, speed.ms)

    def again(self, qualities: Sequence[tuple[float, float]]) -> Point:
        """The mean of this and of the same model from other seeds."""
        every = ((self.gauc, self.hit), *qualities)
        gauc, hit = (sum(column) / len(every) for column in zip(*every, strict=True))
        return dataclasses.replace(self, gauc=gauc, hit=hit, seeds=every)

    def plain(self) -> dict[str, object]:
        """As JSON holds it."""
        out: dict[str, object] = {
            "gauc": round(self.gauc, 4),
            "hit": round(self.hit, 4),
            "rows_per_s": round(self.rows_per_s),
            "ms_2000": round(self.ms, 3),
        }
        if len(self.seeds) > 1:
            for name, column in zip(("gauc", "hit"), zip(*self.seeds, strict=True), strict=True):
                out[f"{name}_range"] = [round(min(column), 4), round(max(column), 4)]
        return out


@dataclass(frozen=True)
class Classroom:
    """Where any model of the table can be trained, from any seed."""

    run: Run
    cascade: Cascade
    yardstick: Yardstick

    def trained(self, name: str, config: Builds[Pointwise], seed: int) -> Pointwise:
        """Build a model, train it on labels or on the ranker's order, and freeze it."""
        app = self.run.app.model_copy(update={"seed": seed})
        run = dataclasses.replace(self.run, app=app)
        samples, judge = run.samples(self.cascade.builder.space), self.yardstick.judge
        if name in ORDERS:
            model = self._ordered(app.model_copy(update={"preranking": config}), run, config)
        else:
            school = Schooling(samples, app.prerank_training, Trainer(), judge, seed)
            model = school.train(config, f"{name}, seed {seed}")
        model.freeze()
        return model

    def _ordered(self, app: App, run: Run, config: Builds[Pointwise]) -> Pointwise:
        samples = run.samples(self.cascade.builder.space)
        torch.manual_seed(app.seed)
        model = config.build(samples.space, samples.config.tasks)
        learn_order(model, self.cascade, app, samples, Trainer(), self.yardstick.judge)
        return model

    def repeated(
        self, points: Sequence[Point], configs: Mapping[str, Builds[Pointwise]], seeds: int
    ) -> list[Point]:
        """The points with the mean over so many seeds, for those whose settings are given."""
        out: list[Point] = []
        for point in points:
            if point.name in configs and seeds > 1:
                first = self.run.app.seed
                models = (
                    self.trained(point.name, configs[point.name], first + more)
                    for more in range(1, seeds)
                )
                qualities = [self.yardstick.quality(model) for model in models]
                point = point.again([(each.gauc, each.hit) for each in qualities])
            out.append(point)
        return out


def settings_of(
    name: str, first: Builds[Pointwise], made: Sequence[Cold], orders: Sequence[str]
) -> dict[str, Builds[Pointwise]]:
    """By their names in the table: the run's own pre-ranker, COLD of each size, and orders."""
    colds = {f"cold {len(model.groups)}": model.config for model in made}
    return {name: first, **colds, **{order: ORDERS[order] for order in orders}}
