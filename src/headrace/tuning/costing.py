"""How long pre-rankers and rankers take, and which of their parts take it: by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..data import Candidates, Ragged, Requests
from ..nn.gates import Costs
from ..nn.pointwise import Pointwise
from ..ops import first_layer
from ..preranking.cold import Cold
from ..samples import Samples

ROWS = 2_000  # candidates of the request that is timed
REPEATS = 15


class Speed(NamedTuple):
    """One request of ``rows`` candidates, one after the other; medians."""

    rows: int
    features_ms: float
    score_ms: float

    @property
    def ms(self) -> float:
        """In all."""
        return self.features_ms + self.score_ms

    @property
    def rows_per_s(self) -> float:
        """Candidates a second, features included."""
        return 1000 * self.rows / self.ms


@dataclass(frozen=True)
class Request:
    """A request to measure by: a real user, items of the catalogue at random."""

    samples: Samples
    row: int  # of the log's requests
    requests: Requests
    found: Candidates

    @classmethod
    def of(cls, samples: Samples, rows: int = ROWS) -> Request:
        """The request of the validation period whose user has the median history."""
        asked = samples.requests("valid")
        offsets = np.asarray(samples.log.event("user_offsets"))
        users = np.asarray(samples.log.request("user"))[asked]
        row = int(asked[np.argsort(np.diff(offsets)[users], kind="stable")[len(asked) // 2]])
        on_sale = torch.nonzero(samples.space.catalogue.available)[:, 0]
        shuffled = torch.randperm(len(on_sale), generator=torch.Generator().manual_seed(1))
        found = Candidates(Ragged.of([on_sale[shuffled[:rows]]]))
        return cls(samples, row, samples.features(np.array([row])), found)

    def features(self, model: Pointwise) -> Candidates:
        """The candidates with what a model reads of them."""
        return self._made(list(model.reads_cross), hits=model.reads_hits)

    def _made(self, names: list[str], *, hits: bool = False) -> Candidates:
        builder, store = self.samples.builder, self.samples.store
        return builder.candidates(self.requests, self.found, store, hits=hits, names=names)

    def speed(self, model: Pointwise) -> Speed:
        """Of a frozen model."""
        ready = self.features(model)
        made_ms = median_ms(lambda: self.features(model)) if model.reads_cross else 0.0
        return Speed(len(self.found), made_ms, median_ms(lambda: model.score(self.requests, ready)))

    def costs(self, model: Pointwise) -> Costs:
        """What the groups and layers of a model take, in ms."""
        stack = model.stack()
        assert stack is not None
        names = [each.name for each in stack.inputs]
        made_ms, shared = self._made_ms(model)
        layers = model.get_submodule(stack.path)
        linear = [layer for layer in layers.children() if isinstance(layer, nn.Linear)]
        each_ms = [_linear_ms(layer, len(self.found)) for layer in linear]
        width = sum(each.width for each in stack.inputs)
        fetch = [made_ms.get(name, 0.0) + self._looked_up_ms(model, name) for name in names]
        if isinstance(model, Cold):  # its first layer is made ahead: only crosses are added up
            share = [
                float(name in model.reads_cross) / max(len(model.reads_cross), 1) for name in names
            ]
            each_ms[0] = self._added_ms(len(model.reads_cross), linear[0].out_features)
        else:
            share = [each.width / width for each in stack.inputs]
        return Costs(
            torch.tensor(fetch),
            torch.tensor(share) * each_ms[0],
            tuple(each_ms[1:]),
            tuple((tuple(map(names.index, some)), ms) for some, ms in shared),
        )

    def _made_ms(self, model: Pointwise) -> tuple[dict[str, float], list[tuple[list[str], float]]]:
        """Of making each cross feature by itself, and of look-ups that several share."""
        names = list(model.reads_cross)
        base = median_ms(lambda: self._made([])) if names else 0.0
        alone = {n: max(median_ms(partial(self._made, [n])) - base, 0.0) for n in names}
        shared: list[tuple[list[str], float]] = []
        kin = self.samples.builder.counters(names)
        if kin and not model.reads_hits:  # with hits the look-up is made in any case
            shared.append((kin, min(alone[n] for n in kin)))
        for n in kin:
            alone[n] -= min(alone[k] for k in kin)
        return alone, shared

    def _looked_up_ms(self, model: Pointwise, name: str) -> float:
        """Of turning a feature's ids to vectors, and for a sequence of gathering it."""
        if name in model.embed.names.get("cross", []):
            if isinstance(model, Cold):
                return 0.0
            ids = self._made([name]).features[name]
        elif name in self.requests.features:
            ids = self.requests.tensor(name)
        elif name in self.samples.space.schema.sequences and isinstance(model, Cold):
            row, read = np.array([self.row]), self.samples.features
            gap = median_ms(lambda: read(row, [name])) - median_ms(lambda: read(row, []))
            return max(gap, 0.0)
        else:
            return 0.0  # of items: encoded once a bundle
        return median_ms(lambda: model.embed.look_up(name, ids))

    def _added_ms(self, features: int, width: int) -> float:
        """Of adding up so many vectors a candidate."""
        if not features:
            return 0.0
        id_FN = torch.randint(0, 30, (features, len(self.found))).numpy()
        table_RH = torch.randn(30 * features, width).numpy()
        offsets, none_N = self.found.item_id.offsets.numpy(), np.zeros(len(self.found), np.int64)
        row_1H, start_F = table_RH[:1], 30 * np.arange(features)
        added = partial(
            first_layer.of_candidates, row_1H, offsets, row_1H, none_N, table_RH, rectify=True
        )
        return median_ms(lambda: added(start_F=start_F, id_FN=id_FN)) - median_ms(
            lambda: added(start_F=start_F[:0], id_FN=id_FN[:0])
        )


@torch.inference_mode()
def _linear_ms(layer: nn.Linear, rows: int) -> float:
    x = torch.randn(rows, layer.in_features)
    return median_ms(lambda: layer(x))


def median_ms(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median wall time of some calls, after one that warms up."""
    work()
    spent: list[float] = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - begun))
    return float(np.median(spent))
