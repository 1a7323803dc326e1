"""The user's own frequent and recent items, come round again.

Score ``Σ_events exp(-age / τ)`` over the user's events on an item, with τ fitted: on validation
requests, the value of the grid with the highest recall at ``judge_at`` is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from .. import config
from ..data import Candidates, Ragged, Requests
from ..features import FeatureSpace
from ..ops import own_items
from ..samples import Samples
from ..training import Trainer
from ._base import Channel, member

DAY_MS = 86_400_000


@final
class Repurchase(Channel):
    """What the user had before, by decayed frequency."""

    class Config(config.Config):
        """Settings of Repurchase."""

        kind: Literal["repurchase"] = "repurchase"
        history: str = "lifetime"
        """The sequence that is counted; make it long."""
        tau_days: tuple[float, ...] = Field(default=(15, 30, 60, 90, 120, 180, 365), min_length=1)
        """Time constants to choose from."""
        judge_at: int = Field(default=50, ge=1, le=10_000)
        """Validations measure recall in so many items."""

        def build(self, space: FeatureSpace) -> Repurchase:
            """Make the channel."""
            del space
            return Repurchase(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> OwnItems:
        """Choose the time constant on validation requests."""
        del name, trainer
        rows, truth = samples.first_requests("valid")
        requests = samples.features(rows)
        quota_B = torch.full((len(rows),), self.config.judge_at)

        def recall(tau_days: float) -> float:
            found = OwnItems(tau_days, self.config.history).retrieve(requests, quota_B).item_id
            hit_N = member(truth, found).double()
            hits_B = torch.zeros(len(truth)).double().index_add(0, truth.row, hit_N)
            return float((hits_B / truth.lengths).mean())

        return OwnItems(max(self.config.tau_days, key=recall), self.config.history)

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> OwnItems:
        """Take up the fitted time constant."""
        del space
        return OwnItems(float(arrays["tau_days"]), self.config.history)


class OwnItems:
    """Counts a request's history; keeps nothing but the time constant."""

    def __init__(self, tau_days: float, history: str) -> None:
        self._tau_days, self._history = tau_days, history

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """The user's items with the highest decayed counts, best first."""
        items = requests.ragged(f"{self._history}.item")
        times = requests.ragged(f"{self._history}.time_ms")
        age_E = (times.spread(requests.time_ms) - times.values).double()
        found = own_items.rank(
            items.offsets.numpy(),
            items.values.numpy(),
            torch.exp(-age_E / (self._tau_days * DAY_MS)).numpy(),
            requests.exclude.offsets.numpy(),
            requests.exclude.values.numpy(),
            quota_B.numpy(),
        )
        offsets, item, score = map(torch.from_numpy, found)
        return Candidates(Ragged(item, offsets)).scored("score", score.unsqueeze(-1))

    def arrays(self) -> Mapping[str, Tensor]:
        """The time constant."""
        return {"tau_days": torch.tensor(self._tau_days, dtype=torch.float64)}
