"""Samples by reference: (request, item, label); all else is looked up as of the request's time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..behavior import BehaviorStore
from ..data import Batch, Candidates, Ragged, Requests
from ..errors import DataError
from ..features import FeatureBuilder, FeatureSpace
from ..features.build import Asked
from ..features.encoders import Bucket
from ..log import Log
from ..ops import groups, history, sampling
from .batches import RankingBatches, RetrievalBatches
from .config import SamplesConfig
from .split import Split

Array = NDArray[Any]
Part = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Drawn:
    """Candidates of some requests with what became of them."""

    request: Array  # (B,) int64, rows of the log's requests
    item: Ragged  # (N,) int64
    labels: Mapping[str, Tensor]  # task -> (N,) float32
    exposed: Tensor  # (N,) bool: the request was shown the item
    weight: Tensor  # (N,) float32: exposures that each one stands for
    log_rate: Tensor  # (N,) float32: log of the rate at which it is drawn if it is a negative


class Samples:
    """The training, validation and test samples of one log under one feature space."""

    def __init__(
        self,
        config: SamplesConfig,
        log: Log,
        split: Split,
        builder: FeatureBuilder,
        store: BehaviorStore,
        seed: int,
    ) -> None:
        self.config, self.log, self.split, self.seed = config, log, split, seed
        self.builder, self.store = builder, store
        self._target_mask = _mask(config.targets, log)
        self._task_mask = _mask(config.tasks, log)
        linked = np.asarray(log.event("request"))
        self._linked = np.argsort(linked, kind="stable")[np.count_nonzero(linked < 0) :]
        counts = np.bincount(linked[linked >= 0], minlength=log.manifest.num_requests)
        self._event_offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @property
    def space(self) -> FeatureSpace:
        """The feature space that models are built from."""
        return self.builder.space

    @cached_property
    def frequency(self) -> Array:
        """Target events of each item in the training period, ``(I,) int64``."""
        item = np.asarray(self.log.event("item"))[self.counted()]
        return np.bincount(item, minlength=self.log.manifest.num_items)

    def counted(self) -> Array:
        """Which events are target events before the validation period, ``(E,) bool``."""
        kind = np.asarray(self.log.event("type")).astype(np.int64)
        early = np.asarray(self.log.event("time_ms")) < self.split.valid_ms
        return early & ((self._target_mask >> kind) & 1).astype(bool)

    def requests(self, part: Part, *, days: float | None = None) -> Array:
        """Requests of a part that ended in a target event, in order of time."""
        low, high = self.split.interval(part)
        if days is not None:
            low = max(low, high - int(days * 86_400_000))
        time_ms = np.asarray(self.log.request("time_ms"))
        within = np.flatnonzero((time_ms >= low) & (time_ms < high))
        offsets, _, _ = self._positives(within, self._target_mask)
        within = within[np.diff(offsets) > 0]
        return within[np.argsort(time_ms[within], kind="stable")]

    def first_requests(self, part: Part) -> tuple[Array, Ragged]:
        """Each user's first request of a part, and the distinct items it took: the truth."""
        rows = self.requests(part)
        users = np.asarray(self.log.request("user"))[rows]
        _, first = np.unique(users, return_index=True)
        rows = np.sort(rows[first])
        return rows, self.truth(rows)

    def truth(self, request_B: Array, task: str | None = None) -> Ragged:
        """The distinct items that requests took, or that an event of type ``task`` fell on."""
        mask = self._target_mask if task is None else _mask((task,), self.log)
        offsets, item, _ = self._positives(request_B, mask)
        return Ragged(torch.from_numpy(item), torch.from_numpy(offsets))

    def asked(self, request_B: Array) -> Asked:
        """The bare facts of logged requests."""
        log = self.log
        return Asked(
            np.asarray(log.request("user"))[request_B].astype(np.int64),
            np.asarray(log.request("time_ms"))[request_B],
            {c: np.asarray(log.request(c))[request_B] for c in log.manifest.context},
            np.asarray(log.request("group"))[request_B].astype(np.int64),
        )

    def features(self, request_B: Array, sequences: Collection[str] | None = None) -> Requests:
        """Logged requests with their features; of sequences those named, by default all."""
        return self.builder.requests(self.asked(request_B), self.store, sequences)

    def is_new(self, request_B: Array, item: Ragged) -> Tensor:
        """Whether the user had no event on an item before the request, ``(N,) bool``."""
        asked = self.asked(request_B)
        row = item.row.numpy()
        category = self.space.catalogue.category.numpy()[item.values.numpy()]
        events = self.store.by_category(
            asked.user[row], category, asked.time_ms[row], self.space.schema.key_events
        )
        own, _, _, _ = history.counters(
            events.item, events.time_ms, events.offsets, np.arange(len(row)), item.values.numpy()
        )
        return torch.from_numpy(own == 0)

    def seen(self, request_B: Array) -> Ragged:
        """The distinct items that each request's user had before it."""
        asked = self.asked(request_B)
        everything = np.iinfo(np.int64).max
        events = self.store.latest(asked.user, asked.time_ms, everything, self._target_mask)
        rows = [
            torch.from_numpy(np.unique(events.item[a:z]).astype(np.int64))
            for a, z in zip(events.offsets[:-1], events.offsets[1:], strict=True)
        ]
        return Ragged.of(rows)

    def draw(self, request_B: Array, *, seed: int, exposures_only: bool = False) -> Drawn:
        """Positives and negatives of requests; the same seed draws the same."""
        log, wanted = self.log, self.config.negatives
        group_R, shown = log.request("group"), log.exposure("item")
        group_offsets = log.exposure("offsets")
        positive = self._positives(request_B, self._task_mask)
        exposed = sampling.exposures(
            request_B, group_R, group_offsets, shown, wanted.keep_exposures, seed
        )
        counts = (wanted.uniform, wanted.frequency, wanted.history)
        extra = sampling.unexposed(
            request_B,
            log.request("user"),
            log.request("time_ms"),
            log.event("user_offsets"),
            log.event("time_ms"),
            log.event("item"),
            self._popular,
            log.manifest.num_items,
            *((0, 0, 0) if exposures_only else counts),
            seed,
        )
        group_B = np.asarray(group_R)[request_B]
        offsets, item, origin, bits, on_show = sampling.combine(
            *positive, *exposed, extra, group_B, group_offsets, shown
        )
        labels = {
            task: torch.from_numpy(((bits >> log.type_code(task)) & 1).astype(np.float32))
            for task in self.config.tasks
        }
        stands_for = 1 / max(wanted.keep_exposures, 1e-12)
        weight = np.where(origin == sampling.EXPOSURE, stands_for, 1.0).astype(np.float32)
        drawn = Drawn(
            request_B,
            Ragged(torch.from_numpy(item), torch.from_numpy(offsets)),
            labels,
            torch.from_numpy(on_show),
            torch.from_numpy(weight),
            self._log_rate(request_B, offsets, item, on_show),
        )
        return _exposures(drawn) if exposures_only else drawn

    def add(self, drawn: Drawn, more: Ragged) -> tuple[Drawn, Tensor]:
        """Put candidates without labels behind those drawn, and tell which they are, ``(N,) bool``.

        ``more`` has a row a request; items that were drawn are not added again. Their labels say 0,
        their rates are those of negatives, so that odds mean the same of all.
        """
        fresh = torch.nonzero(~more.within(drawn.item))[:, 0]
        more = Candidates(more).take(fresh).item_id
        row_N = torch.cat([drawn.item.row, more.row])
        order_N = row_N.argsort(stable=True)
        item_N = torch.cat([drawn.item.values, more.values])[order_N]
        item = Ragged.sized(item_N, drawn.item.lengths + more.lengths)
        added_N = order_N >= len(drawn.item.values)
        groups_B = np.asarray(self.log.request("group"))[drawn.request]
        offsets, shown = self.log.exposure("offsets"), self.log.exposure("item")
        of_N = groups_B[item.row.numpy()]
        on_show_N = groups.find(offsets, shown, of_N, item_N.numpy()) >= 0
        none = torch.zeros(len(more.values))
        return Drawn(
            drawn.request,
            item,
            {task: torch.cat([label, none])[order_N] for task, label in drawn.labels.items()},
            torch.from_numpy(on_show_N),
            torch.cat([drawn.weight, none + 1])[order_N],
            self._log_rate(drawn.request, item.offsets.numpy(), item_N.numpy(), on_show_N),
        ), added_N

    def _log_rate(
        self, request_B: Array, offsets: Array, item_N: Array, on_show_N: Array
    ) -> Tensor:
        """Log of the rate at which each item is drawn as a negative of its request, ``(N,)``."""
        extra_N = self._extra_rate(request_B, offsets, item_N)
        rate_N = np.where(on_show_N, self.config.negatives.keep_exposures, extra_N)
        return torch.from_numpy(np.log(np.maximum(rate_N, 1e-9)).astype(np.float32))

    def _extra_rate(self, request_B: Array, offsets: Array, item_N: Array) -> Array:
        """Probability that an item not on show is among a request's extras, ``(N,)``."""
        wanted = self.config.negatives
        uniform, frequency, of_history = wanted.uniform, wanted.frequency, wanted.history
        expected_N = (
            uniform / max(self.log.manifest.num_items - 1, 1)
            + frequency * self._popular_share[item_N]
        )
        if of_history:
            expected_N += of_history * self._own_share(request_B, offsets, item_N)
        return -np.expm1(-expected_N)

    def _own_share(self, request_B: Array, offsets: Array, item_N: Array) -> Array:
        """Share of an item among its user's events, ``(N,)``."""
        row_N = np.repeat(np.arange(len(request_B)), np.diff(offsets))
        asked = self.asked(request_B)
        return history.own_share(
            self.log.event("user_offsets"),
            self.log.by_category("key_offsets"),
            self.log.by_category("key_category"),
            self.log.by_category("key_start"),
            self.log.by_category("order"),
            self.log.event("time_ms"),
            self.log.event("item"),
            asked.user[row_N],
            asked.time_ms[row_N],
            item_N,
            self.log.item_category[item_N],
        )

    def batch(
        self, drawn: Drawn, *, hits: bool = True, sequences: Collection[str] | None = None
    ) -> Batch:
        """Drawn candidates with all features, each candidate of weight 1.

        ``hits``: also the user's past events in their categories, for models that read them;
        ``sequences``: those to gather, by default all.
        """
        requests = self.features(drawn.request, sequences)
        given = Candidates(drawn.item, self._privileged(drawn))
        found = self.builder.in_training(requests, given, self.store, hits=hits)
        return Batch(
            requests,
            found,
            drawn.labels,
            torch.ones(len(found)),
            torch.zeros(0, dtype=torch.int64),
            drawn.log_rate,
        )

    def _privileged(self, drawn: Drawn) -> dict[str, Tensor]:
        """What is known of a candidate only after the event; serving has no way to compute it."""
        schema, log = self.space.schema, self.log
        out: dict[str, Tensor] = {}
        for name in filter(self.space.told_by_events, schema.names("privileged")):
            encoder = self.space.encoders[name]
            assert isinstance(encoder, Bucket)
            numbers = sampling.values_of(
                drawn.request,
                self._event_offsets,
                self._linked,
                log.event("item"),
                log.event("type"),
                log.event("value"),
                log.type_code(schema.features[name].column or name),
                drawn.item.offsets.numpy(),
                drawn.item.values.numpy(),
            )
            out[name] = torch.from_numpy(encoder.encode_numbers(numbers))
        return out

    def positives_batch(
        self,
        request_B: Array,
        *,
        seed: int,
        pool: int,
        sequences: Collection[str] | None = None,
    ) -> Batch:
        """What requests took, at most ``max_positives`` each, and a pool of uniform negatives.

        Labels tell which target events each item got. ``sequences``: those to gather, by default
        all.
        """
        offsets, item, bits_N = self._positives(request_B, self._target_mask)
        truth = Ragged(torch.from_numpy(item), torch.from_numpy(offsets))
        keep = np.ones(len(truth.values), bool)
        if self.config.new_to_user:
            keep = self.is_new(request_B, truth).numpy()
        at = torch.from_numpy(
            sampling.subset(truth.offsets.numpy(), keep, self.config.max_positives, request_B, seed)
        )
        found = Candidates(truth).take(at)
        rng = np.random.default_rng([seed, int(request_B[0])])
        negatives = rng.integers(1, self.log.manifest.num_items, pool)
        bits_N = bits_N[at.numpy()]
        labels = {
            task: torch.from_numpy(((bits_N >> self.log.type_code(task)) & 1).astype(np.float32))
            for task in self.config.targets
        }
        return Batch(
            self.features(request_B, sequences),
            found,
            labels,
            torch.ones(len(found)),
            torch.from_numpy(negatives),
        )

    def ranking(
        self,
        part: Part,
        size: int,
        *,
        hits: bool = True,
        sequences: Collection[str] | None = None,
    ) -> RankingBatches:
        """Batches of ``size`` requests for a ranker or pre-ranker; the rest as in ``batch``."""
        rows = self.requests(part, days=self.config.ranking_days)
        return RankingBatches(self, rows, size, hits, sequences)

    def retrieval(
        self,
        part: Part,
        size: int,
        *,
        pool: int,
        days: float | None = None,
        sequences: Collection[str] | None = None,
    ) -> RetrievalBatches:
        """Batches of ``size`` requests for a channel, each with ``pool`` uniform negatives.

        ``days``: of the newest requests, by default all; ``sequences`` as in ``positives_batch``.
        """
        return RetrievalBatches(self, self.requests(part, days=days), size, pool, sequences)

    def _positives(self, request_B: Array, mask: int) -> tuple[Array, Array, Array]:
        return sampling.positives(
            request_B,
            self._event_offsets,
            self._linked,
            self.log.event("item"),
            self.log.event("type"),
            mask,
        )

    @cached_property
    def _popular_share(self) -> Array:
        """Probability that one draw by frequency gives an item, ``(I,)``."""
        counts = np.bincount(self._popular, minlength=self.log.manifest.num_items)
        return counts / len(self._popular)

    @cached_property
    def _popular(self) -> Array:
        """Items repeated in proportion to frequency ** 0.75, about a million draws in all."""
        share = self.frequency.astype(float) ** 0.75
        repeats = np.ceil(share * (1_000_000 / max(share.sum(), 1.0))).astype(np.int64)
        repeats[0] = 0
        if not repeats.any():
            raise DataError("samples: no target event in the training period; move the split")
        return np.repeat(np.arange(len(repeats)), repeats)


def _mask(types: tuple[str, ...], log: Log) -> int:
    return sum(1 << log.type_code(name) for name in types)


def _exposures(drawn: Drawn) -> Drawn:
    """Only what was shown: the set on which rankers are judged and calibrated."""
    at = torch.nonzero(drawn.exposed)[:, 0]
    item = Candidates(drawn.item).take(at).item_id
    labels = {task: label[at] for task, label in drawn.labels.items()}
    return Drawn(
        drawn.request, item, labels, drawn.exposed[at], drawn.weight[at], drawn.log_rate[at]
    )
