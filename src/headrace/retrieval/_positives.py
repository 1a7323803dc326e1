"""Items that are taken: how often each is a positive in training, and how popular each is now."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from .. import config
from ..data import Candidates, Ragged
from ..samples import Samples
from ._counting import counted, share_of, type_mask, worth

LASTING = 0.01  # share of popularity that is of all time: items unsold of late keep an order


class Popularity(config.Config):
    """What is popular now, as a part of every score."""

    weight: float = Field(default=1.0, gt=0, le=10)
    """Of log popularity against the towers' score."""
    half_life_days: float = Field(default=14.0, gt=0, le=3650)
    """A target event counts half after so long."""


def positive_counts(samples: Samples) -> Tensor:  # (I,) float64
    """How often each item is a positive in an epoch of retrieval batches, on average."""
    rows = samples.requests("train")
    truth = Candidates(samples.truth(rows))
    if samples.config.new_to_user:
        truth = truth.take(torch.nonzero(samples.is_new(rows, truth.item_id))[:, 0])
    item = truth.item_id
    chance_B = (samples.config.max_positives / item.lengths.clamp(min=1)).clamp(max=1.0)
    size = samples.log.manifest.num_items
    return torch.bincount(item.values, item.spread(chance_B).double(), minlength=size)


def log_popularity(samples: Samples, settings: Popularity | None, until_ms: int) -> Tensor:  # (I,)
    """Weighted log of each item's share of target events, as of a time; 0 without settings."""
    if settings is None:
        return torch.zeros(samples.log.manifest.num_items)
    event_E = counted(samples, type_mask(samples, None), until_ms)
    worth_E = worth(samples, event_E, until_ms, settings.half_life_days)
    recent_I = share_of(samples, event_E, worth_E)
    ever_I = samples.frequency + 1.0
    share_I = (1 - LASTING) * recent_I + LASTING * ever_I / ever_I.sum()
    return settings.weight * torch.from_numpy(np.log(share_I)).float()


def union(a: Ragged, b: Ragged) -> Ragged:
    """The distinct values of each row of two columns."""
    size = 1 + max(int(x.values.max()) if len(x.values) else 0 for x in (a, b))
    pair = torch.cat([x.row * size + x.values for x in (a, b)]).unique()
    return Ragged.sized(pair % size, torch.bincount(pair // size, minlength=len(a)))
