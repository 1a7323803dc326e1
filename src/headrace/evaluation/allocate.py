"""``headrace allocate``: profile plans, replay logged requests under them, report on policies."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .. import config
from ..allocation import experience
from ..allocation import model as kept
from ..allocation.actions import Actions, Quota, grid, is_effort, is_tier
from ..allocation.compare import Pool
from ..allocation.features import Describer
from ..allocation.gains import Estimator
from ..allocation.logged import Logged
from ..allocation.model import Model
from ..allocation.pruning import worth_having
from ..bundle import Bundle
from ..errors import ConfigError, DataError
from ..pipeline.learning import some
from ..pipeline.train import Step
from ..run import Run
from ..samples import Samples
from ..serving.cascade import Cascade
from ..stages import EFFORT, PRERANKER, RANKING, RERANKER, TIER, Plainly
from ..value import Value
from . import replay as replaying
from .allocation_page import write_page
from .realised import Learnt, learn
from .replay import TOGETHER

TIMED = 10  # requests that tell channels' times
JUDGED = 200  # requests that tell which plans are dominated


@dataclass(frozen=True)
class Opened:
    """A trained run with all that plans are tried on."""

    run: Run
    samples: Samples
    cascade: Cascade
    version: str  # of the bundle

    @classmethod
    def of(cls, run: Run, formula: str | None = None) -> Opened:
        """Open a run; ``formula`` takes the place of the configured value."""
        bundle, log = Bundle.open(run.bundle_path), run.log()
        samples, cascade = run.samples(bundle.space(log)), bundle.assemble(log)
        torch.set_num_threads(1)  # as in the server
        if formula is not None:
            settings = config.parse(f"formula = {json.dumps(formula)}", Value.Config, "--formula")
            tasks, columns = run.app.samples.tasks, tuple(cascade.catalogue.columns)
            cascade = replace(cascade, value=Value(settings, tasks, columns))
        for name in run.app.tiers:
            if name not in cascade.tiers:
                raise ConfigError(f"tiers: {name!r} is not in the bundle; train again")
        return cls(run, samples, cascade, bundle.version)

    @property
    def folder(self) -> Path:
        """Where everything about allocation is kept."""
        return self.run.folder / kept.FOLDER

    @property
    def options(self) -> tuple[str, ...]:
        """What plans may leave out or replace here; re-ranking only where its worth is known."""
        reranker = self.cascade.reranker
        known = isinstance(reranker, Plainly) and reranker.worth is not None
        return tuple(name for name in self.cascade.options if known or name != RERANKER)

    def describer(self, history: str) -> Describer:
        """What is told of requests: all plain columns but ids of users."""
        ids = [n for n, f in self.run.app.schema_.features.items() if f.encode == "id"]
        requests = self.samples.features(self.samples.requests("test")[:1])
        return Describer.of(requests, history, ids)

    def history(self) -> str:
        """The longest sequence that is gathered anyway, "" if none is."""
        reads = self.cascade.reads_sequences
        lengths = {n: s.length for n, s in self.run.app.schema_.sequences.items()}
        names = [name for name in lengths if reads is None or name in reads]
        return max(names, key=lambda name: lengths[name], default="")


def profile(
    opened: Opened,
    step: Step,
    requests: int,
    quota: dict[str, int],
    *,
    new_share: float = 0.0,
    widen: float = 1.0,
) -> Actions:
    """Measure every plan of the grid and keep those that no other dominates.

    A share of the requests asks for what is new to its user; the widest plan has ``widen`` times
    the quota.
    """
    samples, cascade = opened.samples, opened.cascade
    rows = samples.requests("valid")
    if not len(rows):
        raise DataError("no request of the validation period took anything; nothing to profile on")
    with torch.inference_mode():
        with step("channels"):
            timed = some(rows, TIMED, 1)
            ms = replaying.channel_ms(cascade, samples, timed, quota)
            plans = grid(quota, ms, opened.options, widen)
        with step(f"cost of {len(plans)} plans"):
            timed = some(rows, requests, 2)
            actions = replaying.profile(cascade, samples, timed, plans, new_share=new_share)
        with step("gain of plans"):
            describe = opened.describer("")
            judged = some(rows, JUDGED, 3)
            logged = replaying.replay(
                cascade, samples, judged, actions, describe, new_share=new_share
            )
    busy_ms = actions.cpu_ms_in(TOGETHER)  # choosing matters then
    actions = actions.take(np.sort(worth_having(busy_ms, logged.gain_NJ)))
    actions.write(opened.folder / kept.ACTIONS)
    return actions


def described(quota: Quota) -> str:
    """What a plan has ranked, by whom, and what it leaves out."""
    ranked = quota["preranking"] * quota.get(RANKING, 1)
    by = [name.removeprefix(TIER) for name in quota if is_tier(name) and quota[name] and ranked]
    slow = [
        f"{n.removeprefix(EFFORT)} at {q} %"
        for n, q in quota.items()
        if is_effort(n) and 0 < q < 100
    ]
    plain = [] if quota.get(PRERANKER, 1) else ["not pre-ranked"]
    plain += [] if quota.get(RERANKER, 1) else ["not re-ranked"]
    return ", ".join([f"{ranked:4d} ranked{''.join(f' by {name}' for name in by)}", *plain, *slow])


def replay(
    opened: Opened, step: Step, requests: int, estimator: Estimator, new_share: float = 0.0
) -> Model:
    """Replay the validation and test periods under every plan, and fit the estimators on them."""
    actions = Actions.read(opened.folder / kept.ACTIONS)
    actions.check(opened.cascade.channels, opened.cascade.options)
    describe = opened.describer(opened.history())
    every = [opened.samples.requests(part) for part in ("valid", "test")]
    rows = some(np.concatenate(every), requests, 4)
    with torch.inference_mode(), step(f"replay of {len(rows):,} requests"):
        logged = replaying.replay(
            opened.cascade, opened.samples, rows, actions, describe, new_share=new_share
        )
    logged.write(opened.folder / kept.REPLAY)
    with step(f"estimator {estimator}"):
        model = Model.fit(actions, describe, logged, estimator, opened.version)
    model.write(opened.folder)
    return model


def heed(opened: Opened, step: Step, within_ms: int) -> Learnt:
    """Correct the last replay's estimates by what live decisions brought within a time.

    Events are those of the log and of the server's store. Nothing is replayed; what an earlier call
    learnt is learnt anew. Raises DataError where nothing can be compared, and changes nothing then.
    """
    model = Model.read(opened.folder, tuple(opened.run.app.retrieval), opened.cascade.options)
    if model.version != opened.version:
        raise DataError(f"{opened.folder}: replayed before the last training; replay again")
    log = opened.run.log()
    with step("decisions"), closing(opened.run.store()) as store, torch.inference_mode():
        lived = experience.read(opened.folder, model, log.manifest.num_items)
        learnt = learn(
            model,
            lived,
            opened.cascade,
            store,
            log,
            opened.run.app.samples.tasks,
            until_ms=store.last_ms,
            within_ms=within_ms,
        )
    model.corrected(learnt.correction.scale_J).write(opened.folder)
    return learnt


def report(run: Run) -> Path:
    """Write allocation/report.html from the last replay."""
    folder = run.folder / kept.FOLDER
    actions = Model.read(folder, tuple(run.app.retrieval)).actions  # those that were replayed
    logged = Logged.read(folder / kept.REPLAY)
    if len(logged) < 2 or not np.isfinite(logged.gain_NJ).all():
        raise DataError(f"{folder}: too little to report on; replay more requests")
    pool = Pool.of(actions, logged)
    late = logged.take(np.arange(len(logged) - len(pool), len(logged)))
    return write_page(folder / "report.html", run.app.name, actions, pool, late)
