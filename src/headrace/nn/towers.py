"""Two towers: requests and items as vectors that meet in an inner product and nowhere before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from .. import config
from ..data import Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..ops import tower_users
from ..ops.distinct import distinct
from ..ops.event_pools import Known
from ..ops.lanes import padded
from ..ops.tower_users import Features, Tower
from ..schema import Schema
from . import age
from .embedder import Embedder
from .history import Events, EventWeights, HistoryEncoder, told
from .mlp import Activation, mlp, slopes

Array = NDArray[Any]
CHUNK = 16_384  # items encoded at a time


@dataclass(frozen=True, slots=True)
class Items:
    """What the towers make of some items, a row an item: all that requests need of them."""

    vector: Tensor  # (U, D)
    extra: Tensor  # (U, X)
    event: Tensor  # (U, W), what each puts into the events of a history
    tower: Tower | None = None  # of all of a catalogue, for requests to come without gradients
    tables: tuple[Array, ...] = ()  # with it, of what is known of requests


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
        none = torch.zeros(1, dtype=torch.int64)  # lest there be no item at all to look up
        items_U, (place_E, place_M, _) = distinct(self._history(requests), item_M, none)
        items = self.encode(embed, items_U)
        user_BHD = self._user(embed, requests, place_E, items)
        return user_BHD, items.vector[place_M], items.extra[place_M]

    def users(self, embed: Embedder, requests: Requests, items: Items) -> Tensor:  # (B, H, D)
        """Encode requests alone; ``items`` are all of the catalogue, encoded."""
        if items.tower is None or torch.is_grad_enabled():
            return self._user(embed, requests, self._history(requests), items)
        request_BD = embed.request_of(items.tables, requests)
        history = told(requests, self.config.history)
        return torch.from_numpy(tower_users.users(items.tower, history, request_BD))

    def encode(self, embed: Embedder, item_U: Tensor) -> Items:
        """Encode distinct items."""
        feature_UF = embed.items(item_U)
        vector_UD, extra_UX = self.item_tower(feature_UF).split(self._item_shape, dim=1)
        if self.config.shortcut:
            vector_UD = vector_UD + self.item_shortcut(feature_UF)
        event_UW = torch.cat([layer(feature_UF) for layer in self._event_layers()], dim=1)
        return Items(F.normalize(vector_UD, dim=1), extra_UX, event_UW)

    @torch.no_grad()
    def encode_all(self, embed: Embedder, item_M: Tensor, chunk: int = CHUNK) -> Items:
        """Encode any number of items, ``chunk`` at a time, without gradients."""
        parts = [self.encode(embed, some) for some in item_M.split(chunk)]
        vector = torch.cat([part.vector for part in parts])
        event = torch.cat([part.event for part in parts])
        quick = event.device.type == "cpu" and event.dtype == torch.float32
        quick = quick and self.config.activation != "dice"
        tower = self.folded(vector, event) if quick else None
        tables = embed.tables_of("user", "context") if quick else ()
        return Items(vector, torch.cat([part.extra for part in parts]), event, tower, tables)

    @torch.no_grad()
    def folded(self, vector_IX: Tensor, event_IW: Tensor) -> Tower:
        """What the kernels for user vectors read, on CPU and float32."""
        sides = [self.history.side, *self.history.weights.sides]
        gain_H = torch.zeros(0)
        if self.config.shortcut:
            sides += self.user_shortcut.sides
            gain_H = self.log_gain.exp()[:, 0]
        kind_KW = torch.cat([each.kind[:, 0] for each in sides], dim=1)
        age_AW = torch.cat([each.age[0] for each in sides], dim=1)
        own = event_IW, kind_KW, age_AW, age.STARTS_MS, vector_IX, self.history.nothing.detach()
        layers = [layer for layer in self.user_tower if isinstance(layer, nn.Linear)]
        return Tower(
            Known(*(_array(x) for x in own)),
            tuple(_array(layer.weight.T) for layer in layers),
            tuple(_array(layer.bias) for layer in layers),
            tuple(_array(slope) for slope in slopes(self.user_tower)),
            _array(gain_H),
            self.config.encoder.events,
            self.history.weights.heads,
            self.config.encoder.pooling == "attention",
        )

    @torch.no_grad()
    def features(self, embed: Embedder) -> Features:
        """What the kernels make events of where nobody keeps ``event`` of all items."""
        layers = self._event_layers()
        weight_FW = torch.cat([layer.weight for layer in layers]).T
        bias_W = torch.cat([layer.bias for layer in layers])
        tables = embed.tables_of("item")
        return Features(embed.item_ids.numpy(), tables, padded(_array(weight_FW)), _array(bias_W))

    def _event_layers(self) -> list[nn.Linear]:
        return self.history.layers + (self.user_shortcut.layers if self.config.shortcut else [])

    def _history(self, requests: Requests) -> Tensor:  # (E,)
        return requests.ragged(f"{self.config.history}.item").values

    def _user(self, embed: Embedder, requests: Requests, place_E: Tensor, items: Items) -> Tensor:
        events = Events.newest(requests, self.config.history, place_E, self.config.encoder.events)
        event_BLW = events.gather(items.event)
        event_BLX, logit_BLH = event_BLW.tensor_split([self.history.item_width], dim=2)
        pooled_BW = self.history(event_BLX, events)
        user_BHD = self._layers(torch.cat([pooled_BW, embed.request(requests)], dim=1))
        if self.config.shortcut:
            mean_BHD = self.user_shortcut(logit_BLH, events) @ events.gather(items.vector)
            user_BHD = user_BHD + self.log_gain.exp() * F.normalize(mean_BHD, dim=2)
        return F.normalize(user_BHD, dim=2)

    def _layers(self, input_BX: Tensor) -> Tensor:
        return self.user_tower(input_BX).unflatten(1, self._user_shape)


def _array(x: Tensor) -> Array:
    return x.detach().contiguous().numpy()


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
