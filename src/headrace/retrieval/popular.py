"""What everybody takes now: target events, each worth half after some days.

The half-life is chosen from a grid by recall on validation requests, counted before them; the
counts that serve then run to the end of the validation period.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from .. import config
from ..data import Candidates, Ragged, Requests
from ..features import FeatureSpace
from ..samples import Samples
from ..training import Trainer
from ._base import Channel, leave_out, member

DAY_MS = 86_400_000


@final
class Popular(Channel):
    """One list for everyone: the floor under every other channel."""

    class Config(config.Config):
        """Settings of Popular."""

        kind: Literal["popular"] = "popular"
        half_life_days: tuple[float, ...] = Field(default=(7, 14, 30, 60), min_length=1)
        """Half-lives to choose from."""
        keep: int = Field(default=5_000, ge=1, le=1_000_000)
        """Length of the list; a request leaves out what it excludes."""
        judge_at: int = Field(default=50, ge=1, le=10_000)
        """Validations measure recall in so many items."""

        def build(self, space: FeatureSpace) -> Popular:
            """Make the channel."""
            del space
            return Popular(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> PopularList:
        """Choose the half-life, then count."""
        del name, trainer
        _, truth = samples.first_requests("valid")

        def recall(half_life_days: float) -> float:
            best = self._count(samples, half_life_days).item_id[: self.config.judge_at]
            row = torch.arange(len(truth)).repeat_interleave(len(best))
            lists = Ragged.sized(best.repeat(len(truth)), torch.bincount(row, minlength=len(truth)))
            hit_N = member(truth, lists).double()
            hits_B = torch.zeros(len(truth)).double().index_add(0, truth.row, hit_N)
            return float((hits_B / truth.lengths).mean())

        return self._count(samples, max(self.config.half_life_days, key=recall))

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> PopularList:
        """Take up the list."""
        del space
        return PopularList(arrays["item_id"], arrays["count"])

    def _count(self, samples: Samples, half_life_days: float) -> PopularList:
        log, counted = samples.log, samples.counted()
        age_ms = samples.split.valid_ms - np.asarray(log.event("time_ms"))[counted]
        worth = np.exp2(-age_ms / (half_life_days * DAY_MS))
        item = np.asarray(log.event("item"))[counted]
        count_I = np.bincount(item, worth, minlength=log.manifest.num_items)
        count_I[0] = 0
        best = np.argsort(-count_I, kind="stable")[: self.config.keep]
        best = best[count_I[best] > 0]
        return PopularList(torch.from_numpy(best), torch.from_numpy(count_I[best]).float())


class PopularList:
    """The counted list."""

    def __init__(self, item_id: Tensor, count: Tensor) -> None:
        self.item_id, self.count = item_id, count  # (M,) int64, best first; (M,) float32

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """The head of the list without what is excluded."""
        longest_B = (quota_B + requests.exclude.lengths).clamp(max=len(self.item_id))
        rows = Ragged.sized(self.item_id[:0], longest_B)
        place_N = torch.arange(int(rows.offsets[-1])) - rows.offsets[:-1].repeat_interleave(
            longest_B
        )
        found = Candidates(Ragged(self.item_id[place_N], rows.offsets))
        return leave_out(
            found.scored("score", self.count[place_N].unsqueeze(-1)), requests, quota_B
        )

    def arrays(self) -> Mapping[str, Tensor]:
        """The list."""
        return {"item_id": self.item_id, "count": self.count}
