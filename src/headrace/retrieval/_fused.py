"""An attention scorer as it serves: the user part and the cross by kernels.

B  requests    E  events of their histories    V  width of an item's vector
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Requests
from ..nn.history import told
from ..ops import attention_score, event_keys, tower_users
from ..ops.attention_score import Lifetime
from ..ops.event_pools import Told
from ..ops.lanes import padded
from ..training.torch_state import threads
from ._split import Scores

if TYPE_CHECKING:
    from ._attention import AttentionScorer

Array = NDArray[Any]


@final
class FusedAttention:
    """What makes scores for each of some requests, out of an ``AttentionScorer``'s weights.

    A request is some dozen calls instead of some hundred.
    """

    def __init__(
        self, scorer: AttentionScorer, vector_IV: Tensor, row_IX: Tensor, bonus_I: Tensor
    ) -> None:
        config = scorer.config
        self._config, self._lifelong = config, scorer.lifelong
        self._embed = scorer.embed
        self._vector_IV, self._attends_to = vector_IV.numpy(), scorer.attends_to
        self._reads = scorer.sequences
        self._tower = scorer.towers.folded(vector_IV[:0], vector_IV[:0])
        self._features = scorer.towers.features(scorer.embed)
        self._request_tables = scorer.embed.tables_of("user", "context")
        low, width = row_IX.dtype == torch.bfloat16, config.hidden[0] if config.hidden else 0
        table_IX = row_IX.view(torch.uint16).numpy() if low else row_IX.numpy()
        self._items = attention_score.catalogue(table_IX, bonus_I.numpy(), width)
        self._net = attention_score.net([layer.arrays() for layer in scorer.layers(torch.float32)])
        scale = config.dim**0.5  # vectors of length 1, their entries about 1
        self._user_VH = np.zeros((config.dim, 0), np.float32)
        if width:
            self._user_VH = scale * scorer.user.weight.detach().numpy().T
        self._long = scorer.lifelong and scorer.lifelong.folded(scale * vector_IV)
        self._recent = self._count_AH = None
        if scorer.recent is not None:
            self._recent = scorer.recent.folded(vector_IV, scale)
            self._count_AH = padded(scorer.recent.count.detach()[:, 0].numpy())

    def __call__(self, requests: Requests) -> list[Scores]:
        """Make the user part of each request."""
        team = torch.get_num_threads()
        with torch.no_grad(), threads(1):  # a team waits longer for itself than it works
            events = {name: told(requests, name) for name in self._reads}
            product_BV, user_BV = self._users(requests, events).transpose(1, 0, 2)
            product_BV = product_BV / np.float32(self._config.temperature)
            half_BH, made = user_BV @ self._user_VH, list[Scores]()
            for b in range(len(requests)):
                told_b = self._attention(events, b), self._net, self._lifetime(events, b)
                unit = attention_score.unit(product_BV[b], half_BH[b], *told_b)
                made.append(attention_score.Scorer(unit, self._items, team))
        return made

    def _users(self, requests: Requests, events: Mapping[str, Told]) -> Array:  # (B, 2, V)
        """Events are made of their items' features here, so that nobody keeps them."""
        request_BD = self._embed.request_of(self._request_tables, requests)
        own = self._tower, self._features, self._vector_IV
        return tower_users.users_anew(*own, events[self._config.history], request_BD)

    def _attention(
        self, events: Mapping[str, Told], b: int
    ) -> tuple[Array, Array, Array, Array] | None:
        if self._recent is None or self._count_AH is None or self._attends_to is None:
            return None
        own, most = events[self._attends_to], self._config.events
        return *event_keys.keys(self._recent, own, b, most), self._count_AH

    def _lifetime(self, events: Mapping[str, Told], b: int) -> Lifetime | None:
        if self._lifelong is None or self._long is None:
            return None
        own = events[self._lifelong.config.sequence]
        return self._lifelong.kernel_part(self._long, own, b)
