"""Two towers: requests and items as vectors that meet in an inner product and nowhere before."""

from __future__ import annotations

from typing import final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from .. import config
from ..data import Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..schema import Schema
from .embedder import Embedder, distinct
from .history import Events, EventWeights, HistoryEncoder
from .mlp import Activation, mlp

CHUNK = 16_384  # items encoded at a time


@final
class Towers(nn.Module):
    """A user tower over history and request features, an item tower over item features.

    Both read one Embedder, so that an item means the same in a history and as a candidate. Their
    vectors have length 1. H user vectors a request meet one and the same item vector (H tasks, or
    H interests); X numbers are what the item tower says of an item beyond its direction.

    With ``shortcut`` an item's features reach its vector past the layers too, by one linear map,
    and a weighted mean of the vectors of the history's items is added to each user vector: an id
    passes uncompressed, and a user is near to what they took before anything is learnt.
    """

    class Config(config.Config):
        """Settings of Towers; a model over towers extends it with its own."""

        history: str = "history"
        """The sequence that the user tower reads."""
        encoder: HistoryEncoder.Config = HistoryEncoder.Config()
        """How it is read."""
        dim: int = Field(default=64, ge=1, le=4096)
        """Width of the vectors that meet."""
        user_hidden: tuple[int, ...] = (256,)
        """Widths of the user tower's hidden layers."""
        item_hidden: tuple[int, ...] = (128,)
        """Widths of the item tower's hidden layers."""
        activation: Activation = "relu"
        dropout: float = Field(default=0.0, ge=0, lt=1)
        shortcut: bool = True
        """Straight ways past the hidden layers, of item features and of the history's items."""
        leave_out: tuple[str, ...] | None = None
        """Features that neither tower sees. Default: ids of users, which memorise."""

    def __init__(
        self, config: Config, embed: Embedder, *, vectors: int = 1, extra: int = 0
    ) -> None:
        """``vectors`` user vectors a request (H), ``extra`` numbers an item (X).

        The Embedder stays the model's own: it is passed in wherever it is read.
        """
        super().__init__()
        self.config = config
        self._user_shape, self._item_shape = (vectors, config.dim), (config.dim, extra)
        width = embed.dim("item")
        self.history = HistoryEncoder(config.encoder, width)
        rule, dropout = config.activation, config.dropout
        user = self.history.width + embed.dim("user", "context"), *config.user_hidden
        self.user_tower = mlp(*user, vectors * config.dim, activation=rule, dropout=dropout)
        item = width, *config.item_hidden
        self.item_tower = mlp(*item, config.dim + extra, activation=rule, dropout=dropout)
        for layer in (*self.user_tower, *self.item_tower):
            if isinstance(layer, nn.Linear):  # table entries are small: random biases would make
                nn.init.zeros_(layer.bias)  # all vectors alike at first, at a mean cosine of 0.9
        if config.shortcut:
            self.item_shortcut = nn.Linear(width, config.dim, bias=False)
            self.user_shortcut = EventWeights(config.encoder.pooling, width, vectors)
            self.log_gain = nn.Parameter(torch.zeros(vectors, 1))  # of the mean against the tower

    def forward(
        self, embed: Embedder, requests: Requests, item_M: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode requests and items: ``(B, H, D)``, ``(M, D)`` and ``(M, X)``."""
        events_E = requests.ragged(f"{self.config.history}.item").values
        none = torch.zeros(1, dtype=torch.int64)  # lest there be no item at all to look up
        items_U, (place_E, place_M, _) = distinct(events_E, item_M, none)
        feature_UF = embed.items(items_U)
        item_UD, extra_UX = self._item(feature_UF)
        user_BHD = self._user(embed, requests, place_E, feature_UF, item_UD)
        return user_BHD, item_UD[place_M], extra_UX[place_M]

    def users(self, embed: Embedder, requests: Requests) -> Tensor:  # (B, H, D)
        """Encode requests alone."""
        return self(embed, requests, torch.zeros(0, dtype=torch.int64))[0]

    @torch.no_grad()
    def items(
        self, embed: Embedder, item_M: Tensor, chunk: int = CHUNK
    ) -> tuple[Tensor, Tensor]:  # (M, D), (M, X)
        """Encode any number of items for an index, ``chunk`` at a time."""
        parts = [self._item(embed.items(some)) for some in item_M.split(chunk)]
        vector_M, extra_M = zip(*parts, strict=True)
        return torch.cat(vector_M), torch.cat(extra_M)

    def _user(
        self,
        embed: Embedder,
        requests: Requests,
        place_E: Tensor,
        feature_UF: Tensor,
        item_UD: Tensor,
    ) -> Tensor:
        events = Events.newest(requests, self.config.history, place_E, self.config.encoder.events)
        pooled_BW = self.history(feature_UF, events)
        user_BX = self.user_tower(torch.cat([pooled_BW, embed.request(requests)], dim=1))
        user_BHD = user_BX.unflatten(1, self._user_shape)
        if self.config.shortcut:
            mean_BHD = self.user_shortcut(feature_UF, events) @ events.gather(item_UD)
            user_BHD = user_BHD + self.log_gain.exp() * F.normalize(mean_BHD, dim=2)
        return F.normalize(user_BHD, dim=2)

    def _item(self, feature_MF: Tensor) -> tuple[Tensor, Tensor]:
        vector_MD, extra_MX = self.item_tower(feature_MF).split(self._item_shape, dim=1)
        if self.config.shortcut:
            vector_MD = vector_MD + self.item_shortcut(feature_MF)
        return F.normalize(vector_MD, dim=1), extra_MX


def embedder(config: Towers.Config, space: FeatureSpace) -> Embedder:
    """The tables that the towers read."""
    left_out = check(config, space.schema)
    return Embedder(space, ("user", "context", "item"), leave_out=left_out)


def check(config: Towers.Config, schema: Schema) -> tuple[str, ...]:
    """The features that the towers do not see. Raises ConfigError if a name does not exist."""
    if config.history not in schema.sequences:
        raise ConfigError(
            f"history: no sequence {config.history!r}; {suggest(config.history, schema.sequences)}"
        )
    if config.leave_out is None:
        return tuple(n for n in schema.names("user") if schema.features[n].encode == "id")
    for name in config.leave_out:
        if name not in schema.features:
            raise ConfigError(f"leave_out: no feature {name!r}; {suggest(name, schema.features)}")
    if set(schema.names("item")) <= set(config.leave_out):
        raise ConfigError("leave_out: names every item feature; leave at least one to the towers")
    return config.leave_out
