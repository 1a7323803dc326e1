"""What a channel is: a recipe that learns from samples and leaves a retriever behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..samples import Samples
from ..stages import Retriever
from ..training import Trainer


class Channel(ABC):
    """Abstract. A neural channel trains and indexes; a counting one counts; both leave a part.

    The event log's time order is law: ``fit`` reads nothing at or after ``samples.split.valid_ms``
    except to tune settings on the validation interval, and never the test interval.
    """

    @abstractmethod
    def fit(self, samples: Samples, name: str, trainer: Trainer) -> Retriever:
        """Learn from samples; neural channels train under ``name`` with the run's trainer."""
        raise NotImplementedError

    @abstractmethod
    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> Retriever:
        """Rebuild the retriever from its arrays; scores equal those before, bit for bit."""
        raise NotImplementedError


def reads(history: str, skip: str | None) -> tuple[str, ...]:
    """The sequences of a retriever that searches by one and leaves out the items of another."""
    return (history,) if skip is None else (history, skip)


def leave_out(found: Candidates, requests: Requests, quota_B: Tensor) -> Candidates:
    """Drop excluded items and cut each row to its quota; rows are best first already."""
    if len(requests.exclude.values):
        found = found.take(torch.nonzero(~found.item_id.within(requests.exclude))[:, 0])
    return found.first(quota_B)
