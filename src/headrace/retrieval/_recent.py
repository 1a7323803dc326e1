"""The attention of a searchable scorer over recent events, folded into the layer it enters.

B  requests                      L  recent events, and one more that stands for nothing
n  items of a list               A  heads        Q  width of query and key
V  width of an item's vector     H  width of the layer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Requests
from ..nn import age
from ..nn.history import Events, SideTable
from ..nn.search import INITIAL_SHARPNESS, direction
from ..ops import event_keys
from ..ops.event_keys import Folded
from ..ops.event_pools import Told
from ..ops.lanes import padded

Array = NDArray[Any]

NOTHING = -5.0  # logit of attending to nothing, at first: between strangers' -10 and the same's 0
LEAST = 1e-30  # share of the attention that goes to nothing, at least: it has a logarithm


@dataclass(frozen=True, slots=True)
class Keys:
    """The events of some requests, ``[B]``; keys and values head by head."""

    key: Tensor  # ([B], A, Q, L)
    bias: Tensor  # ([B], A, 1, L)
    value: Tensor  # ([B], A, L, H), multiplied into the layer already
    count: Tensor  # (A, 1, H) of the layer, for the log of the sum of exponentials
    lengths: tuple[int, ...]  # B, events and 1

    def to(self, dtype: torch.dtype) -> Self:
        """The same in another precision."""
        parts = self.key, self.bias, self.value, self.count
        key, bias, value, count = (part.to(dtype) for part in parts)
        return replace(self, key=key, bias=bias, value=value, count=count)

    def one(self, b: int) -> Self:
        """Those of request ``b`` alone."""
        size = self.lengths[b]  # without padding: the same alone as in a batch
        key, bias = self.key[b, ..., :size], self.bias[b, ..., :size]
        return replace(self, key=key, bias=bias, value=self.value[b, :, :size], lengths=(size,))


@dataclass(frozen=True, slots=True)
class FusedRecent:
    """The user half of ``Recent`` by a kernel."""

    sequence: str
    most: int
    made: Folded
    count_AH: Array  # padded

    def of(self, events: Mapping[str, Told], b: int) -> tuple[Array, Array, Array, Array]:
        """Keys, biases, values and the log's weights of request ``b``, as scores read them."""
        own = events[self.sequence]
        return *event_keys.keys(self.made, own, b, self.most), self.count_AH


@final
class Recent(nn.Module):
    """Multi-head target attention, ``softmax(λ (cos(W_q v, W_k e) - 1) + β) e W_v``, a head each.

    β is a bias by type and age of the event. Beside each head the log of its sum of exponentials
    enters the layer. A key that stands for nothing gives requests without events something to
    attend to.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, outputs: int) -> None:
        """``dim`` is V, ``outputs`` is H."""
        super().__init__()
        self._heads, self._head_dim, self._outputs = heads, head_dim, outputs
        self.query = nn.Linear(dim, heads * head_dim, bias=False)
        self.key = nn.Linear(dim, heads * head_dim, bias=False)
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)  # like finds like from the start
        self.sharpness = nn.Parameter(torch.full((heads, 1), INITIAL_SHARPNESS))
        self.side_bias, self.side = SideTable(heads), SideTable(dim)
        self.value = nn.Linear(dim, heads * outputs, bias=False)
        self.count = nn.Parameter(torch.zeros(heads, 1, outputs))
        self.nothing = nn.Parameter(torch.full((heads,), NOTHING))
        self.nothing_value = nn.Parameter(torch.zeros(heads, 1, outputs))

    def queries(self, vector: Tensor) -> Tensor:  # (..., A * Q)
        """The item half."""
        query = direction(self.query(vector).unflatten(-1, (self._heads, self._head_dim)))
        return (self.sharpness * query).flatten(-2)

    def users(
        self, requests: Requests, events: Events, look_up: Callable[[Tensor], Tensor]
    ) -> Keys:
        """The user half; ``look_up`` gives the vectors of items, which ``events.place`` are."""
        heads, size = self._heads, len(requests)
        event_BLV = look_up(events.place)
        key_BLAQ = direction(self.key(event_BLV).unflatten(-1, (heads, self._head_dim)))
        bias_BLA = self.side_bias(events) - self.sharpness[:, 0]
        lowest = torch.finfo(bias_BLA.dtype).min
        bias_BLA = bias_BLA.masked_fill(~events.mask.unsqueeze(-1), lowest)
        bias_BLA = torch.cat([self.nothing.expand(size, 1, heads), bias_BLA], dim=1)
        value_BLX = self.value(event_BLV + self.side(events))
        value_BALH = value_BLX.unflatten(-1, (heads, self._outputs)).transpose(1, 2)
        nothing = self.nothing_value.expand(size, -1, -1, -1)
        return Keys(
            F.pad(key_BLAQ.permute(0, 2, 3, 1), (1, 0)),
            bias_BLA.transpose(1, 2).unsqueeze(2),
            torch.cat([nothing, value_BALH], dim=2),
            self.count,
            tuple((1 + events.mask.sum(1)).tolist()),
        )

    @torch.no_grad()
    def fused(self, vector_IV: Tensor, scale: float, sequence: str, most: int) -> FusedRecent:
        """The user half as it serves, of the newest ``most`` events of a sequence.

        Vectors are multiplied by ``scale`` here.
        """
        heads, depth = self._heads, self._outputs

        def values(x_NX: Tensor) -> Array:  # (N, A * H), each head's padded
            return padded(x_NX.unflatten(1, (heads, depth)).numpy()).reshape(len(x_NX), -1)

        def side(x_NV: Tensor) -> Array:  # (N, X)
            own_NX = values(self.value(x_NV))
            return np.concatenate([np.zeros((len(x_NV), key_VX.shape[1]), np.float32), own_NX], 1)

        key_VX = padded(scale * self.key.weight.T.numpy())
        made = Folded(
            vector_IV.numpy(),
            np.concatenate([key_VX, values(scale * self.value.weight.T)], axis=1),
            side(self.side.kind[:, 0]),
            side(self.side.age[0]),
            self.side_bias.kind[:, 0].numpy(),
            (self.side_bias.age[0] - self.sharpness[:, 0]).numpy(),
            age.STARTS_MS.numpy(),
            self.nothing.detach().numpy(),
            padded(self.nothing_value[:, 0].numpy()),
            self._head_dim,
        )
        return FusedRecent(sequence, most, made, padded(self.count[:, 0].numpy()))

    def forward(self, keys: Keys, query: Tensor, x: Tensor) -> Tensor:  # (..., n, H)
        """Add the attention to what else enters the layer."""
        for head, query_nQ in enumerate(query.split(self._head_dim, dim=-1)):
            bias = keys.bias[..., head, :, :]
            share = add_product(bias, query_nQ, keys.key[..., head, :, :]).softmax(dim=-1)
            # log Σ exp, from the share of what stands for nothing
            total = bias[..., :1] - share[..., :1].clamp(min=LEAST).log()
            x = add_product(x, share, keys.value[..., head, :, :])
            x = x.addcmul(total, keys.count[head])
        return x


def add_product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``x + a @ b`` in one pass, of matrices or of batches of them."""
    return torch.addmm(x, a, b) if a.dim() == 2 else torch.baddbmm(x, a, b)
