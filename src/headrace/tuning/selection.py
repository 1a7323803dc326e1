"""Which of a COLD pre-ranker's groups to read: ranked by importance, then retrained for several K.

COLD (arXiv:2007.16122), section 3.2: average the squeeze block's scales, keep the most important
groups, judge several sizes by quality and cost, take the best within the limit. Departure: the
authors chose by hand, here the limit is a number of milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch

from ..bundle import Bundle
from ..errors import ConfigError
from ..pipeline.distillation import Teaching
from ..pipeline.learning import some
from ..pipeline.train import Step
from ..preranking.cold import Cold, every_group
from ..run import Run
from ..samples import Samples
from ..training import Trainer
from .schooling import Schooling
from .yardstick import CHUNK, REQUESTS, Yardstick

SHARES = (1.0, 0.75, 0.5, 0.35, 0.2)  # of the groups, where no K is asked for


@dataclass(frozen=True, slots=True)
class Trial:
    """COLD with the ``keep`` most important groups, as measured."""

    keep: int
    precision: str
    gauc: float  # on the validation period
    hit: float  # share of the ranker's first 10 among its own first 50
    rows_per_s: float
    ms: float  # a request of ``costing.ROWS`` candidates, features included
    features_ms: float

    @property
    def name(self) -> str:
        """What a plot calls it."""
        return f"K = {self.keep}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The groups by importance, every trial, and the one to take."""

    importance: Mapping[str, float]  # most important first
    trials: tuple[Trial, ...]
    best: Trial
    budget_ms: float | None

    @property
    def settings(self) -> str:
        """What to write under [preranking]."""
        groups = ", ".join(f'"{name}"' for name in self.importance)
        return f'groups = [{groups}]\nkeep = {self.best.keep}\nprecision = "{self.best.precision}"'

    def plain(self) -> dict[str, object]:
        """As JSON holds it."""
        return asdict(self)


def select(
    run: Run, sizes: Sequence[int], budget_ms: float | None, trainer: Trainer, step: Step
) -> Selection:
    """Train on everything, rank the groups, train again for each K, and choose.

    Raises ConfigError if the pre-ranker is not COLD, if a K exceeds the number of groups, or if no
    K keeps within the budget.
    """
    app, config = run.app, run.app.preranking
    if not isinstance(config, Cold.Config):
        raise ConfigError(f'[preranking] kind = {config.kind!r}: only "cold" has groups to select')
    with step("load"):
        bundle = Bundle.open(run.bundle_path)
        bundle.check_schema(app.schema_)
        cascade = bundle.assemble(run.log())
        samples = run.samples(cascade.builder.space)
        sizes = checked(sizes, len(every_group(app.schema_, config.history)))
        yardstick = Yardstick.of(cascade, app.allocation.quota, samples)
    teaching = None
    if config.distill is not None:
        find = partial(cascade.retrieved, app.allocation.quota)
        with step("teacher"):
            teaching = Teaching.prepared(
                app,
                samples,
                trainer,
                yardstick.judge,
                lambda: bundle.ranker("ranking", samples.space),
                find,
            )
    school = Schooling(samples, app.prerank_training, trainer, yardstick.judge, app.seed, teaching)
    importance, made = compare(config, sizes, school, yardstick, step)
    trials = tuple(trial for trial, _ in made)
    return Selection(importance, trials, choose(trials, budget_ms), budget_ms)


def compare(
    config: Cold.Config,
    sizes: Sequence[int],
    school: Schooling,
    yardstick: Yardstick,
    step: Step,
) -> tuple[Mapping[str, float], list[tuple[Trial, Cold]]]:
    """The groups by importance, and for each K a trial and the model, frozen."""
    every = config.model_copy(update={"groups": (), "keep": 0, "squeeze": True})
    with step("all groups"):
        whole = school.train(every, "select.all groups")
    importance = importances(whole, school.samples)
    made: list[tuple[Trial, Cold]] = []
    for keep in sizes:
        settings = config.model_copy(update={"groups": tuple(importance), "keep": keep})
        model = whole
        if keep < len(importance) or not config.squeeze:
            with step(f"keep {keep}"):
                model = school.train(settings, f"select.keep {keep}")
        made.append(_tried(model, settings, school.samples, yardstick))
    return importance, made


def checked(sizes: Sequence[int], num_groups: int) -> list[int]:
    """The sizes to try, largest first; by default shares of all there are."""
    for keep in sizes:
        if not 0 < keep <= num_groups:
            raise ConfigError(f"--keep {keep}: there are {num_groups} groups; 1 to {num_groups}")
    wanted = sizes or [max(1, round(share * num_groups)) for share in SHARES]
    return sorted(set(wanted), reverse=True)


def choose(trials: Sequence[Trial], budget_ms: float | None) -> Trial:
    """The highest GAUC within the budget. Raises ConfigError if nothing is within it."""
    within = [t for t in trials if budget_ms is None or t.ms <= budget_ms]
    if not within:
        fastest = min(trials, key=lambda t: t.ms)
        raise ConfigError(
            f"--budget-ms {budget_ms:g}: no K is within it; the fastest, keep = {fastest.keep}, "
            f"takes {fastest.ms:.2f} ms"
        )
    return max(within, key=lambda t: t.gauc)


def importances(model: Cold, samples: Samples) -> dict[str, float]:
    """Mean scale of each group over exposures of the validation period, largest first."""
    rows = some(samples.requests("valid"), REQUESTS, samples.seed)
    total_G = torch.zeros(len(model.groups))
    seen = 0
    with torch.inference_mode():
        for part in np.array_split(rows, max(1, len(rows) // CHUNK)):
            batch = samples.batch(samples.draw(part, seed=samples.seed), hits=False)
            total_G += model.importance(batch.requests, batch.candidates) * len(batch.candidates)
            seen += len(batch.candidates)
    order = total_G.argsort(descending=True)
    return {model.groups[g]: float(total_G[g]) / max(seen, 1) for g in order.tolist()}


def _tried(
    model: Cold, settings: Cold.Config, samples: Samples, yardstick: Yardstick
) -> tuple[Trial, Cold]:
    """Measure a trained model in the faster precision, bf16 where it wins by a tenth."""
    frozen: dict[str, Cold] = {}
    for precision in ("float32", "bfloat16"):
        chosen = settings.model_copy(update={"precision": precision})
        frozen[precision] = chosen.build(samples.space, model.tasks)
        frozen[precision].load_state_dict(model.state_dict())
        frozen[precision].freeze()
    speed = {name: yardstick.speed(each) for name, each in frozen.items()}
    halved = speed["bfloat16"].score_ms < 0.9 * speed["float32"].score_ms
    precision = "bfloat16" if halved else "float32"
    chosen, took = frozen[precision], speed[precision]
    quality = yardstick.quality(chosen)
    trial = Trial(
        len(model.groups),
        precision,
        quality.gauc,
        quality.hit,
        took.rows_per_s,
        took.ms,
        took.features_ms,
    )
    return trial, chosen
