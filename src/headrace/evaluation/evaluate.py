"""Run a trained cascade on later requests and judge every stage of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..bundle import Bundle
from ..data import Candidates, Ragged, Requests
from ..nn.pointwise import Pointwise
from ..pipeline.learning import Predicted, exposures, predict, some
from ..pipeline.train import Step, without_seen
from ..run import Run
from ..samples import Drawn, Samples
from ..serving.cascade import Cascade
from ..stages import Allocator, Trace, sequences_read
from . import consistency, d_category, lists, metrics
from .consistency import Orders
from .d_category import Rival
from .set_value import Sets, set_value
from .structure import Baseline, Consistency, Preranking, Ranking, Report, Retrieval
from .structure import Cascade as CascadePart

Array = NDArray[Any]
CHUNK = 64  # requests a pass of the cascade
RANK_REQUESTS = 6_000  # most requests whose exposures judge the rankers
LATENCY_REQUESTS = 200  # timed one at a time
BASELINES = ("popular", "repurchase")


@dataclass
class _Lists:
    """What came out of every stage, request by request."""

    channels: dict[str, list[Ragged]] = field(default_factory=dict[str, list[Ragged]])
    stages: dict[str, list[Ragged]] = field(default_factory=dict[str, list[Ragged]])
    orders: list[Orders] = field(default_factory=list[Orders])
    sets: list[Sets] = field(default_factory=list[Sets])
    best: dict[str, list[Ragged]] = field(default_factory=dict[str, list[Ragged]])  # by ranker

    def add(self, trace: Trace) -> None:
        for name, found in trace.found.items():
            self.channels.setdefault(name, []).append(found.item_id)
        for name, left in trace.after.items():
            self.stages.setdefault(name, []).append(left.item_id)

    def channel(self, name: str) -> Ragged:
        return Ragged.join(self.channels[name])

    def stage(self, name: str) -> Ragged:
        return Ragged.join(self.stages[name])


class _Truths(NamedTuple):
    """What requests took: all of it, and what their users had never had."""

    every: Ragged
    new: Ragged


def evaluate(run: Run, bundle: Bundle, step: Step, against: str | None = None) -> Report:
    """Judge a bundle on the test period of the run's log; see docs/report.md for every number.

    ``against`` names the ranker that the d_category part compares with the one that serves.
    """
    started = time.perf_counter()
    torch.set_num_threads(run.app.threads)
    log = run.log()
    with step("load"):
        cascade = bundle.assemble(log)
        samples = run.samples(cascade.builder.space)
        allocator = bundle.app.allocation.build()
        rivals, why_none = d_category.rivals(bundle, samples, against)
    rows, truth = samples.first_requests("test")
    with step("cascade"):
        everything = _run(cascade, allocator, samples, rows, rivals)
    is_new = samples.is_new(rows, truth)
    new_truth = Candidates(truth).take(torch.nonzero(is_new)[:, 0]).item_id
    with step("new to the user"):
        novel = _run(cascade, allocator, samples, rows, new_only=True)
    with step("rankers"):
        tested = exposures(samples, some(samples.requests("test"), RANK_REQUESTS, samples.seed))
        predicted = {name: _predict(bundle, name, samples, tested) for name in bundle.rankers()}
        starved = consistency.kinds(samples, run.app.evaluation.sellers)
        agreed = consistency.consistency(Orders.join(everything.orders), starved)
        told = set_value(Sets.join(everything.sets))
        if told is not None:
            agreed["sets"] = told
        preranking = _judge_preranker(cascade, samples, tested, agreed)
    with step("latency"):
        timings = _time(cascade, allocator, samples, rows)
    price = samples.space.catalogue.columns["price"]
    truths = _Truths(truth, new_truth)
    left = _training(run)
    report: Report = {
        "version": __version__,
        "config": bundle.app.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": _data(run, samples, truth, is_new),
        "retrieval": _judge_retrieval(everything, novel, truths, len(samples.space.catalogue) - 1),
        "preranking": preranking,
        "ranking": {name: _judge(each) for name, each in predicted.items()},
        "cascade": _judge_cascade(everything, novel, truths, price, timings),
        "baselines": _baselines(bundle, everything, novel, truths, price),
        "training": left["training"],
        "seconds": {},
    }
    if rivals:
        best = {name: Ragged.join(everything.best[name]) for name in rivals}
        asked = d_category.Asked(rows, truth, best)
        report["d_category"] = d_category.d_category(samples, asked, tested, predicted)
    else:
        report["left_out"] = {"d_category": why_none}
    report["seconds"] = {**left["seconds"], "evaluation": time.perf_counter() - started}
    return report


def _run(
    cascade: Cascade,
    allocator: Allocator,
    samples: Samples,
    rows: Array,
    rivals: Mapping[str, Rival] | None = None,
    *,
    new_only: bool = False,
) -> _Lists:
    """The cascade over all requests; with ``new_only`` what the user had is left out."""
    out = _Lists()
    for at in range(0, len(rows), CHUNK):
        chunk = rows[at : at + CHUNK]
        requests = samples.features(chunk)
        if new_only:
            requests = without_seen(requests, samples, chunk)
        trace = cascade.run(requests, allocator.plan(requests), samples.store)
        out.add(trace)
        if not new_only:
            asked = (requests, samples.truth(chunk))
            _compare_orders(cascade, asked, trace, samples, rivals or {}, out)
    return out


def _compare_orders(
    cascade: Cascade,
    asked: tuple[Requests, Ragged],
    trace: Trace,
    samples: Samples,
    rivals: Mapping[str, Rival],
    out: _Lists,
) -> None:
    """Rank everything that retrieval found, to see what the pre-ranker and rivals make of it."""
    requests, truth = asked
    readers = (cascade.preranker, cascade.ranker, *(rival.model for rival in rivals.values()))
    hits = any(reader.reads_hits for reader in readers)
    found = trace.after["retrieval"]
    merged = cascade.builder.candidates(requests, found, samples.store, hits=hits)
    rough_N = cascade.worth(merged.scores["preranking"], merged)
    fine_N = cascade.rank(requests, merged).scores["value"][:, 0]
    out.orders.append(Orders(rough_N, fine_N, merged.item_id, truth))
    out.sets.append(Sets.of(rough_N, fine_N, merged, len(trace.found)))
    for name, rival in rivals.items():
        out.best.setdefault(name, []).append(rival.best(cascade, requests, merged))


def _predict(bundle: Bundle, name: str, samples: Samples, tested: list[Drawn]) -> Predicted:
    """A ranker's calibrated probabilities of labelled exposures."""
    raw = predict(bundle.ranker(name, samples.space), samples, tested)
    return raw._replace(probability_NT=bundle.calibration(name).apply(raw.probability_NT))


def _judge(predicted: Predicted) -> Ranking:
    """A ranker on labelled exposures, every one weighted by how many it stands for."""
    p_NT, label_NT, user_N, weight_N = predicted
    p_N, label_N = p_NT[:, -1], label_NT[:, -1]
    grouped = metrics.gauc(user_N, label_N, p_N, weight_N)
    return {
        "auc": metrics.auc(label_N, p_N, weight_N),
        "gauc": grouped.gauc,
        "gauc_users": grouped.users,
        "gauc_skipped": grouped.skipped,
        "logloss": metrics.logloss(label_N, p_N, weight_N),
        "normalised_entropy": metrics.normalised_entropy(label_N, p_N, weight_N),
        "pcoc": metrics.pcoc(label_N, p_N, weight_N),
        "calibration": metrics.calibration(label_N, p_N, weight_N),
    }


def _judge_retrieval(
    everything: _Lists, novel: _Lists, truths: _Truths, num_items: int
) -> Retrieval:
    channels = {name: everything.channel(name) for name in everything.channels}
    by_channel = lists.channel_quality(channels, truths.every, num_items)
    for name in by_channel:
        by_channel[name]["new_to_user"] = lists.recall_at(novel.channel(name), truths.new)
    return {
        "merged": {
            **lists.recall_at(everything.stage("retrieval"), truths.every),
            "new_to_user": lists.recall_at(novel.stage("retrieval"), truths.new),
        },
        "channels": by_channel,
        "overlap": lists.overlap(channels),
    }


def _judge_cascade(
    everything: _Lists,
    novel: _Lists,
    truths: _Truths,
    price: torch.Tensor,
    timings: Mapping[str, list[float]],
) -> CascadePart:
    quality: CascadePart = {
        **lists.slate_quality(everything.stage("reranking"), truths.every, price)
    }
    quality["new_to_user"] = lists.slate_quality(novel.stage("reranking"), truths.new, price)
    quality["latency_ms"] = {
        "p50": float(np.quantile(timings["total"], 0.5)),
        "p99": float(np.quantile(timings["total"], 0.99)),
    }
    quality["stage_ms"] = {n: float(np.mean(t)) for n, t in timings.items() if n != "total"}
    quality["funnel"] = {
        name: float(everything.stage(name).lengths.double().mean()) for name in everything.stages
    }
    return quality


def _judge_preranker(
    cascade: Cascade, samples: Samples, tested: list[Drawn], agreed: Consistency
) -> Preranking:
    preranker = cascade.preranker
    if not isinstance(preranker, Pointwise):
        raise TypeError("only pointwise pre-rankers are judged on exposures")
    raw_NT, label_NT, user_N, weight_N = predict(preranker, samples, tested)
    return {
        "auc": metrics.auc(label_NT[:, -1], raw_NT[:, -1], weight_N),
        "gauc": metrics.gauc(user_N, label_NT[:, -1], raw_NT[:, -1], weight_N).gauc,
        "hit": {k: each["hit"] for k, each in agreed["at"].items()},
        "consistency": agreed,
    }


def _time(
    cascade: Cascade, allocator: Allocator, samples: Samples, rows: Array
) -> Mapping[str, list[float]]:
    """Milliseconds of requests run one at a time, in all and by stage."""
    out: dict[str, list[float]] = {"total": []}
    reads = sequences_read((cascade, allocator))
    for row in some(rows, LATENCY_REQUESTS, samples.seed):
        start = time.perf_counter()
        requests = samples.features(np.array([row]), reads)
        made = time.perf_counter()
        trace = cascade.run(requests, allocator.plan(requests), samples.store)
        out["total"].append(1000 * (time.perf_counter() - start))
        spent = {"request": 1000 * (made - start)}
        spent |= {stage: us / 1000 for stage, us in trace.spent_us.items()}
        for stage, ms in spent.items():
            out.setdefault(stage, []).append(ms)
    return out


def _baselines(
    bundle: Bundle,
    everything: _Lists,
    novel: _Lists,
    truths: _Truths,
    price: torch.Tensor,
) -> dict[str, Baseline]:
    """Single channels in the place of the whole cascade."""
    out: dict[str, Baseline] = {}
    slate = everything.stage("reranking")
    for kind in BASELINES:
        names = [n for n, c in bundle.app.retrieval.items() if c.kind == kind]
        if names:
            alone = everything.channel(names[0])
            out[kind] = {
                **lists.slate_quality(alone, truths.every, price),
                "new_to_user": lists.slate_quality(novel.channel(names[0]), truths.new, price),
                "delta_se": lists.delta_errors(slate, alone, truths.every, price),
            }
    return out


def _data(run: Run, samples: Samples, truth: Ragged, is_new: torch.Tensor) -> Any:
    manifest = samples.log.manifest
    new_B = torch.zeros(len(truth)).index_add(0, truth.row, is_new.float())
    intervals = {p: samples.split.interval(p) for p in ("train", "valid", "test")}
    intervals["log"] = (manifest.first_ms, manifest.last_ms + 1)
    return {
        "name": run.app.name,
        "users": manifest.num_users - 1,
        "items": manifest.num_items - 1,
        "events": manifest.num_events,
        "requests": len(truth),
        "requests_new_to_user": int((new_B > 0).sum()),
        "truth_per_request": float(truth.lengths.double().mean()),
        "new_to_user_share": float(is_new.double().mean()),
        "value_unit": "price",
        "intervals": {
            name: {"start": _moment(low), "end": _moment(high - 1)}
            for name, (low, high) in intervals.items()
        },
        "notes": list(manifest.notes),
    }


def _training(run: Run) -> Any:
    """What training left behind, if the run was trained here."""
    path = run.folder / "training.json"
    return json.loads(path.read_text()) if path.exists() else {"training": {}, "seconds": {}}


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")
