"""What the user took before, most of it and most lately first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from .. import config
from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..ops import own_items
from ..samples import Samples
from ..samples.split import DAY_MS
from ..training import Trainer
from ._base import Channel
from ._counting import check_sequences, counted, past, scored, tune, type_mask

Days = Annotated[float, Field(gt=0, le=10_000)]
Power = Annotated[float, Field(ge=0, le=10)]


@final
class Repurchase(Channel):
    """Personal frequency with decay: ``ρ_i^γ Σ_{t in the user's events on i} exp(-(now - t) / τ)``.

    ``ρ_i = (r_i + m ρ) / (b_i + m)`` is how often an item is taken again: r_i repeats of b_i users,
    drawn to the mean ρ of all items by m users, and divided by it. Milk comes back, a grill does
    not. τ and γ are those of their grids that recall most on validation requests.
    """

    class Config(config.Config):
        """Settings of Repurchase."""

        kind: Literal["repurchase"] = "repurchase"
        history: str = "lifetime"
        """The sequence that is read; the longer, the better."""
        events: tuple[str, ...] | None = None
        """Event types that count. Default: the targets of the samples."""
        tau_days: tuple[Days, ...] = Field(default=(30, 60, 90, 120, 180, 365), min_length=1)
        """Decays τ to choose from."""
        repeat_power: tuple[Power, ...] = Field(default=(0, 0.5), min_length=1)
        """Powers γ of the repeat rate to choose from; 0 leaves it out."""
        repeat_prior: float = Field(default=10.0, gt=0)
        """m: users that the mean repeat rate weighs as much as."""
        judge_at: int = Field(default=50, ge=1, le=10_000)
        """Settings are chosen by recall in so many items."""

        def build(self, space: FeatureSpace) -> Repurchase:
            """Make the channel. Raises ConfigError if the sequence does not exist."""
            check_sequences(space, self.history)
            return Repurchase(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> OwnItems:
        """Count repeats up to the validation interval and choose τ and γ on it."""
        del name, trainer
        rate_I = repeat_rates(self.config, samples, samples.split.valid_ms)
        mask = type_mask(samples, self.config.events)
        choices = [(t, p) for p in self.config.repeat_power for t in self.config.tau_days]

        def make(choice: tuple[float, float]) -> OwnItems:
            return OwnItems.of(self.config, rate_I, mask, *choice)

        return make(tune(samples, choices, make, new=False, at=self.config.judge_at))

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> OwnItems:
        """Take up the repeat rates and what was chosen."""
        del space
        return OwnItems(self.config, arrays)


@final
class OwnItems:
    """Ranks the items of a request's own history."""

    def __init__(self, config: Repurchase.Config, arrays: Mapping[str, Tensor]) -> None:
        """``arrays``: rate (I,), tau_days (), repeat_power (), type_mask ()."""
        self.config = config
        self.reads_sequences = (config.history,)
        self._arrays = arrays
        self._factor_I = arrays["rate"].pow(arrays["repeat_power"].float()).numpy()
        self._tau_ms = float(arrays["tau_days"]) * DAY_MS
        self._type_mask = int(arrays["type_mask"])

    @classmethod
    def of(
        cls,
        config: Repurchase.Config,
        rate_I: Tensor,
        mask: int,
        tau_days: float,
        repeat_power: float,
    ) -> OwnItems:
        """From counts and choices."""
        chosen = {"tau_days": tau_days, "repeat_power": repeat_power}
        arrays = {name: torch.tensor(x, dtype=torch.float64) for name, x in chosen.items()}
        return cls(config, {"rate": rate_I, "type_mask": torch.tensor(mask), **arrays})

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """The user's own items, as far as they are not excluded."""
        events = past(requests, self.config.history)
        return scored(
            *own_items.rank(
                *events,
                self._type_mask,
                self._tau_ms,
                self._factor_I,
                requests.exclude.offsets.numpy(),
                requests.exclude.values.numpy(),
                quota_B.numpy(),
                np.zeros(1 + int(events[1].max(initial=0)), np.int32),
            )
        )

    def recount(self, samples: Samples) -> OwnItems:
        """Repeat rates over all events before the test interval."""
        rate_I = repeat_rates(self.config, samples, samples.split.test_ms)
        return OwnItems(self.config, {**self._arrays, "rate": rate_I})

    def arrays(self) -> Mapping[str, Tensor]:
        """Repeat rates and choices."""
        return self._arrays


def repeat_rates(config: Repurchase.Config, samples: Samples, until_ms: int) -> Tensor:
    """``ρ_i / ρ`` of each item by the events before a time, ``(I,) float32``."""
    event_E = counted(samples, type_mask(samples, config.events), until_ms)
    num_items, prior = samples.log.manifest.num_items, config.repeat_prior
    item_E = np.asarray(samples.log.event("item"))[event_E].astype(np.int64)
    pair = np.unique(np.asarray(samples.log.event_user)[event_E] * np.int64(num_items) + item_E)
    users_I = np.bincount(pair % num_items, minlength=num_items)
    repeats_I = np.bincount(item_E, minlength=num_items) - users_I
    if not repeats_I.any():
        return torch.ones(num_items)
    mean = repeats_I.sum() / users_I.sum()
    rate_I = (repeats_I + prior * mean) / ((users_I + prior) * mean)
    return torch.from_numpy(rate_I.astype(np.float32))
