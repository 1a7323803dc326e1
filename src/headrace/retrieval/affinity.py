"""What is popular among the kinds of item that the user takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from .. import config
from ..data import Candidates, Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..ops import affinity, groups
from ..samples import Samples
from ..samples.split import DAY_MS
from ..schema import Schema
from ..training import Trainer
from ._base import Channel, reads
from ._counting import (
    check_sequences,
    counted,
    left_out,
    past,
    scored,
    share_of,
    tune,
    type_mask,
    worth,
)
from ._shown import Shown, find

Array = NDArray[Any]
Days = Annotated[float, Field(gt=0, le=10_000)]
Crossed = Annotated[tuple[str, ...], Field(min_length=1)]
LIFT_DAYS = 56  # how far back the effect of being on show is measured
LIFT_EVENTS = 100_000  # ... on about so many events
TINY = 1e-12


@final
class Affinity(Channel):
    """Popularity raised by the user's leaning to the item's category, brand, type ...

    ``score_i = log p_i + λ [i is on show] + 1/A Σ_a log((n_ua + κ p_a) / p_a) + const``: item i's
    share p_i of recent events, times the geometric mean over its A attributes of how much more the
    user takes of that attribute value (n_ua of the user's events, faded) than everybody does
    (p_a of all). κ events of everybody are mixed into the user's.

    A naive Bayes model in all but the mean: attributes say much the same, so that a product would
    count it A times. Own design; the idea of ranking within the user's tags is as old as
    recommendation by content. It is the channel for items that are new to the user, or to all.
    """

    class Config(config.Config):
        """Settings of Affinity."""

        kind: Literal["affinity"] = "affinity"
        history: str = "lifetime"
        """The sequence that leanings are read from."""
        events: tuple[str, ...] | None = None
        """Event types that count. Default: the targets of the samples."""
        attributes: tuple[Crossed, ...] | None = Field(default=None, min_length=1)
        """Item features, alone or crossed with others, as in [["category"], ["type", "brand"]].
        Default: every item feature that is neither an id nor a number."""
        leaning_days: float = Field(default=60.0, gt=0, le=10_000)
        """An event of the user counts half after so long."""
        half_life_days: tuple[Days, ...] = Field(default=(14, 30), min_length=1)
        """Half-lives of popularity to choose from, by recall of new items in validation."""
        mix: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(25, 50, 100), min_length=1)
        """κ, in events, to choose from likewise."""
        on_show: bool = False
        """Raise what is on show in the request's exposure group, by how much more of it is taken.
        For groups that are known before the request, as promotions are, not for logged slates."""
        skip: str | None = None
        """A sequence whose items are not returned, since another channel brings them back.
        Default: none."""
        pool: int = Field(default=20_000, ge=1, le=10_000_000)
        """Only so many of the most popular items are looked at."""

        def build(self, space: FeatureSpace) -> Affinity:
            """Make the channel. Raises ConfigError if a name does not exist."""
            check_sequences(space, self.history, self.skip)
            known = space.schema.names("item")
            for crossed in self.attributes or ():
                for feature in crossed:
                    if feature not in known:
                        raise ConfigError(
                            f"attributes: no item feature {feature!r}; {suggest(feature, known)}"
                        )
                if prod(space.encoders[feature].rows for feature in crossed) >= 1 << 63:
                    raise ConfigError(
                        f"attributes: {' x '.join(crossed)} has too many values; cross fewer"
                    )
            return Affinity(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> Leanings:
        """Choose half-life and κ on the validation interval; count up to it."""
        del name, trainer
        settings = self.config
        shares = {
            days: Leanings.count(settings, samples, samples.split.valid_ms, days)
            for days in settings.half_life_days
        }
        choices = [(days, mix) for days in settings.half_life_days for mix in settings.mix]
        days, mix = tune(samples, choices, lambda c: shares[c[0]].mixed(c[1]), new=True)
        return shares[days].mixed(mix)

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> Leanings:
        """Take up the shares; attributes of items come from the catalogue."""
        return Leanings(self.config, space, arrays)


@final
class Leanings:
    """Shares of items and of attribute values, against which a user's own are held."""

    def __init__(
        self, config: Affinity.Config, space: FeatureSpace, arrays: Mapping[str, Tensor]
    ) -> None:
        """Take up what was counted.

        ``arrays``: item (P,) and share (P,) of the pool; of attribute a ``value.a`` (C,) and
        ``value_share.a`` (C,); lift (), mix (), half_life_days (), type_mask (); of exposure groups
        group (G,), shown_offsets (G + 1,) and shown (S,), places in the pool.
        """
        self.config, self._space, self._arrays = config, space, arrays
        self.reads_sequences = reads(config.history, config.skip)
        known = {name: array.numpy() for name, array in arrays.items()}
        crossings = _crossings(config, space.schema)
        code_AI = np.stack(
            [_codes(_crossed(space, c), known[f"value.{a}"]) for a, c in enumerate(crossings)]
        )
        place_I = np.full(len(space.catalogue), -1, np.int32)
        place_I[known["item"]] = np.arange(len(known["item"]))
        shares = [known[f"value_share.{a}"] for a in range(len(crossings))]
        prior_AC = np.full((len(shares), 1 + max(map(len, shares))), TINY, np.float32)
        for a, share_C in enumerate(shares):
            prior_AC[a, 1 : 1 + len(share_C)] = np.maximum(float(known["mix"]) * share_C, TINY)
        self._group_G = known["group"]
        self._pool = affinity.Pool(
            item_P=known["item"],
            log_share_P=np.log(known["share"]).astype(np.float32),
            place_I=place_I,
            code_AI=code_AI,
            code_AP=np.ascontiguousarray(code_AI[:, known["item"]]),
            prior_AC=prior_AC,
            type_mask=int(known["type_mask"]),
            half_life_ms=config.leaning_days * DAY_MS,
            lift=float(known["lift"]),
            shown_offsets=known["shown_offsets"],
            shown_S=known["shown"],
        )

    @classmethod
    def count(
        cls, config: Affinity.Config, samples: Samples, until_ms: int, half_life_days: float
    ) -> Leanings:
        """Count the events before a time; κ is 1 for now."""
        mask = type_mask(samples, config.events)
        event_E = counted(samples, mask, until_ms)
        share_I = share_of(samples, event_E, worth(samples, event_E, until_ms, half_life_days))
        order = np.lexsort((np.arange(len(share_I)), -share_I))[: config.pool]
        item_P = order[share_I[order] > 0]
        arrays = {
            "item": item_P.astype(np.int32),
            "share": share_I[item_P],
            "half_life_days": np.array(half_life_days),
            "type_mask": np.array(mask),
            "mix": np.array(1.0),
            "lift": np.array(_lift(samples, event_E, share_I, until_ms) if config.on_show else 0.0),
        }
        for a, crossed in enumerate(_crossings(config, samples.space.schema)):
            number_I = _crossed(samples.space, crossed)
            value = np.unique(number_I[number_I > 0])
            share_C = np.bincount(_codes(number_I, value), share_I, minlength=len(value) + 1)
            arrays |= {f"value.{a}": value, f"value_share.{a}": share_C[1:]}
        arrays |= _on_show(config, samples, until_ms, item_P)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return cls(config, samples.space, tensors)

    def mixed(self, mix: float) -> Leanings:
        """The same with another κ."""
        arrays = {**self._arrays, "mix": torch.tensor(mix, dtype=torch.float64)}
        return Leanings(self.config, self._space, arrays)

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """The items of the pool with the highest scores."""
        return scored(
            *affinity.rank(
                self._pool,
                *past(requests, self.config.history),
                find(requests.group.numpy(), self._group_G, default=-1),
                *left_out(requests, self.config.skip),
                quota_B.numpy(),
            )
        )

    def recount(self, samples: Samples) -> Leanings:
        """The same half-life and κ over all events before the test interval."""
        days, mix = float(self._arrays["half_life_days"]), float(self._arrays["mix"])
        return Leanings.count(self.config, samples, samples.split.test_ms, days).mixed(mix)

    def arrays(self) -> Mapping[str, Tensor]:
        """All counts and choices."""
        return self._arrays


def _crossings(config: Affinity.Config, schema: Schema) -> Sequence[tuple[str, ...]]:
    """The attributes, each a set of crossed features; the category alone if there is no other."""
    if config.attributes is not None:
        return config.attributes
    plain = [
        (name,)
        for name in schema.names("item")
        if schema.features[name].encode in {"vocabulary", "hash"}
    ]
    return plain or [()]


def _crossed(space: FeatureSpace, crossed: tuple[str, ...]) -> Array:
    """One number for each combination of ids, 0 where any of them is unknown; ``(I,) int64``."""
    catalogue = space.catalogue
    if not crossed:
        return catalogue.category.numpy()
    number_I = np.zeros(len(catalogue), np.int64)
    known_I = np.ones(len(catalogue), bool)
    for name in crossed:
        id_I = catalogue.features[name].numpy()
        number_I = number_I * space.encoders[name].rows + id_I
        known_I &= id_I > 0
    return np.where(known_I, number_I, 0)


def _codes(number_I: Array, value: Array) -> Array:
    """Places from 1 among known combinations, ``(I,) int32``; 0 where unknown."""
    return (1 + find(number_I, value, default=-1)).astype(np.int32)


def _lift(samples: Samples, event_E: Array, share_I: Array, until_ms: int) -> float:
    """Log of how many events fell on what was on show, against what its share would have it."""
    log = samples.log
    recent_E = event_E[log.event("time_ms")[event_E] >= until_ms - LIFT_DAYS * DAY_MS]
    recent_E = recent_E[:: 1 + len(recent_E) // LIFT_EVENTS]
    request_E = np.asarray(log.event("request"))[recent_E]
    group_E = np.where(request_E >= 0, np.asarray(log.request("group"))[request_E], -1)
    recent_E, group_E = recent_E[group_E >= 0], group_E[group_E >= 0]
    offsets, item = log.exposure("offsets"), log.exposure("item")
    at_E = groups.find(offsets, item, group_E, np.asarray(log.event("item"))[recent_E])
    used, times = np.unique(group_E, return_counts=True)
    expected = sum(
        n * share_I[item[offsets[g] : offsets[g + 1]]].sum()
        for g, n in zip(used, times, strict=True)
    )
    taken = np.count_nonzero(at_E >= 0)
    return float(np.log(taken / expected)) if taken and expected > 0 else 0.0


def _on_show(
    config: Affinity.Config, samples: Samples, until_ms: int, item_P: Array
) -> dict[str, Array]:
    """Exposure groups that are not over, as places in the pool."""
    place_I = np.full(samples.log.manifest.num_items, -1, np.int32)
    place_I[item_P] = np.arange(len(item_P))
    if not config.on_show:
        nothing = np.zeros(0, np.int64)
        return {"group": nothing, "shown_offsets": np.zeros(1, np.int64), "shown": nothing}
    shown = Shown.alive(samples, until_ms)
    shown = shown.keep(place_I[shown.item] >= 0)
    return {
        "group": shown.group,
        "shown_offsets": shown.offsets,
        "shown": place_I[shown.item],
    }
