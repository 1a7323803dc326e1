"""What everybody takes now, in all, in one place, or among what is on show."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from .. import config
from ..data import Candidates, Ragged, Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..features.space import CLOCK
from ..ops import ranked_lists
from ..samples import Samples
from ..training import Trainer
from ._base import Channel
from ._counting import counted, share_of, tune, type_mask, worth
from ._shown import Shown, find

Array = NDArray[Any]
Days = Annotated[float, Field(gt=0, le=10_000)]


@final
class Popular(Channel):
    """Items by their share of recent target events, each event worth half after some days.

    The half-life is the one of a grid that recalls most on the validation requests. One list
    serves everybody; with ``context`` there is a list for each of its values,
    ``(n_ci + pull · share_i) / (n_c + pull)``: few events leave it close to the common list. With
    ``on_show`` there is a list for each exposure group, of the items that are on show there.
    """

    class Config(config.Config):
        """Settings of Popular."""

        kind: Literal["popular"] = "popular"
        half_life_days: tuple[Days, ...] = Field(default=(7, 14, 30, 60), min_length=1)
        """Half-lives to choose from."""
        events: tuple[str, ...] | None = None
        """Event types that count. Default: the targets of the samples."""
        context: str | None = None
        """A context feature, for lists by place, device or the like. Default: one list for all."""
        pull: float = Field(default=1000.0, gt=0)
        """Weight of the common list in that of a context, in events."""
        on_show: bool = False
        """Only items on show in the request's exposure group: for groups that are known before the
        request, as promotions are, not for logged slates."""
        keep: int = Field(default=2_000, ge=1, le=1_000_000)
        """Longest list; what a request excludes must leave enough of it."""

        @model_validator(mode="after")
        def _one_key(self) -> Self:
            if self.context is not None and self.on_show:
                raise ValueError("context and on_show: choose one; use two channels for both")
            return self

        def build(self, space: FeatureSpace) -> Popular:
            """Make the channel. Raises ConfigError if the context feature does not exist."""
            known = space.schema.names("context")
            if self.context is not None and self.context not in known:
                raise ConfigError(
                    f"context: no context feature {self.context!r}; {suggest(self.context, known)}"
                )
            if self.context in CLOCK:
                raise ConfigError(
                    f"context: {self.context!r} comes from the time; name a column of requests"
                )
            return Popular(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> Lists:
        """Choose the half-life on the validation interval, then count up to it."""
        del name, trainer
        half_life_days = tune(
            samples,
            self.config.half_life_days,
            lambda days: Lists.count(self.config, samples, samples.split.valid_ms, days),
            new=True,
        )
        return Lists.count(self.config, samples, samples.split.valid_ms, half_life_days)

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> Lists:
        """Take up the lists."""
        del space
        return Lists(self.config, arrays)


@final
class Lists:
    """Ranked items by key: a context id, an exposure group, or 0 for everybody."""

    def __init__(self, config: Popular.Config, arrays: Mapping[str, Tensor]) -> None:
        """``arrays``: key (K,), offsets (K + 1,), item (Y,), score (Y,), half_life_days ()."""
        self.config = config
        self.reads_sequences = ()
        self._arrays = arrays
        self._num_items = 1 + int(arrays["item"].max()) if len(arrays["item"]) else 1

    @classmethod
    def count(
        cls, config: Popular.Config, samples: Samples, until_ms: int, half_life_days: float
    ) -> Lists:
        """Count the events before a time."""
        event_E = counted(samples, type_mask(samples, config.events), until_ms)
        worth_E = worth(samples, event_E, until_ms, half_life_days)
        share_I = share_of(samples, event_E, worth_E)
        if config.on_show:
            lists = _by_group(Shown.alive(samples, until_ms), share_I)
        elif config.context is not None:
            lists = _by_context(config.context, config, samples, event_E, worth_E, share_I)
        else:
            lists = [_List.of(0, np.flatnonzero(share_I), share_I)]
        best = [one.best(config.keep) for one in lists]
        sizes = [0, *(len(one.item) for one in best)]
        arrays = {
            "key": np.array([one.key for one in best], np.int64),
            "offsets": np.cumsum(sizes).astype(np.int64),
            "item": np.concatenate([np.zeros(0, np.int32), *(one.item for one in best)]),
            "score": np.concatenate([np.zeros(0, np.float32), *(one.score for one in best)]),
            "half_life_days": np.array(half_life_days),
        }
        return cls(config, {name: torch.from_numpy(array) for name, array in arrays.items()})

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """The head of each request's list."""
        if self.config.on_show:
            key_B = requests.group
        elif self.config.context is not None:
            key_B = requests.tensor(self.config.context)
        else:
            key_B = torch.zeros_like(requests.user)
        list_B = find(
            key_B.numpy(),
            self._arrays["key"].numpy(),
            default=-1 if self.config.on_show else 0,  # where unknown, the common list
        )
        offsets, position_N = map(
            torch.from_numpy,
            ranked_lists.head(
                self._arrays["offsets"].numpy(),
                self._arrays["item"].numpy(),
                list_B,
                requests.exclude.offsets.numpy(),
                requests.exclude.values.numpy(),
                quota_B.numpy(),
                np.zeros(self._num_items, np.uint8),
            ),
        )
        item_N = self._arrays["item"][position_N].long()
        found = Candidates(Ragged(item_N, offsets))
        return found.scored("score", self._arrays["score"][position_N].unsqueeze(-1))

    def recount(self, samples: Samples) -> Lists:
        """The same half-life over all events before the test interval."""
        half_life_days = float(self._arrays["half_life_days"])
        return Lists.count(self.config, samples, samples.split.test_ms, half_life_days)

    def arrays(self) -> Mapping[str, Tensor]:
        """The lists and the half-life chosen."""
        return self._arrays


@dataclass(frozen=True)
class _List:
    key: int
    item: Array  # (n,) int32
    score: Array  # (n,) float32

    @classmethod
    def of(cls, key: int, item: Array, score_I: Array) -> _List:
        return cls(key, item.astype(np.int32), score_I[item].astype(np.float32))

    def best(self, most: int) -> _List:
        """The highest, best first; equal ones by item."""
        order = np.lexsort((self.item, -self.score))[:most]
        order = order[self.score[order] > 0]
        return _List(self.key, self.item[order], self.score[order])


def _by_group(shown: Shown, share_I: Array) -> list[_List]:
    spans = zip(shown.group, shown.offsets[:-1], shown.offsets[1:], strict=True)
    return [_List.of(int(g), shown.item[a:z], share_I) for g, a, z in spans]


def _by_context(
    name: str,
    config: Popular.Config,
    samples: Samples,
    event_E: Array,
    worth_E: Array,
    share_I: Array,
) -> list[_List]:
    """One list a value of a context feature; value 0, the unknown, has the common list."""
    log, space = samples.log, samples.space
    column = space.schema.features[name].column or name
    id_V = space.encoders[name].encode(pl.Series(log.vocab[column]))
    request_E = np.asarray(log.event("request"))[event_E]
    linked = request_E >= 0
    id_E = id_V[np.asarray(log.request(column))[request_E[linked]]]
    item_E, worth_E = np.asarray(log.event("item"))[event_E[linked]], worth_E[linked]
    common = _List.of(0, np.flatnonzero(share_I), share_I)
    head = common.best(config.keep).item
    order = np.argsort(id_E, kind="stable")
    cuts = np.searchsorted(id_E[order], np.arange(1, id_V.max(initial=0) + 2))
    lists = [common]
    for value, (a, z) in enumerate(itertools.pairwise(cuts), 1):
        own = order[a:z]
        item, place = np.unique(np.concatenate([item_E[own], head]), return_inverse=True)
        count = np.bincount(place[: len(own)], worth_E[own], minlength=len(item))
        score = (count + config.pull * share_I[item]) / (count.sum() + config.pull)
        lists.append(_List(value, item.astype(np.int32), score.astype(np.float32)))
    return lists
