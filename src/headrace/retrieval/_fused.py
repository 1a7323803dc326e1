"""An attention scorer as it serves: the user part and the cross by kernels.

B  requests    E  events of their histories    V  width of an item's vector
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Requests
from ..nn.history import told
from ..ops import attention_score, event_keys, tower_users
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

    A request is some dozen calls instead of some hundred. Only the lifetime's keys and values are
    made by the scorer itself.
    """

    def __init__(
        self, scorer: AttentionScorer, vector_IV: Tensor, row_IX: Tensor, bonus_I: Tensor
    ) -> None:
        config = scorer.config
        self._config, self._lifelong = config, scorer.lifelong
        self._embed = scorer.embed
        self._vector_IV, self._attends_to = vector_IV.numpy(), scorer.attends_to
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
        self._recent = self._count_AH = None
        if scorer.recent is not None:
            self._recent = scorer.recent.folded(vector_IV, scale)
            self._count_AH = padded(scorer.recent.count.detach()[:, 0].numpy())

    def __call__(self, requests: Requests) -> list[Scores]:
        """Make the user part of each request."""
        team = torch.get_num_threads()
        with torch.no_grad(), threads(1):  # a team waits longer for itself than it works
            history = told(requests, self._config.history)
            product_BV, user_BV = self._users(requests, history).transpose(1, 0, 2)
            half_BH, name = user_BV @ self._user_VH, self._attends_to
            recent = told(requests, name) if name and name != self._config.history else history
            long = self._lifelong and self._lifelong.users(requests, self._even)
            made: list[Scores] = []
            for b in range(len(requests)):
                lifetime = None
                if self._lifelong is not None and long is not None:
                    lifetime = self._lifelong.kernel_part(long, b)
                unit = attention_score.unit(
                    product_BV[b] / np.float32(self._config.temperature),
                    half_BH[b],
                    self._attention(recent, b),
                    self._net,
                    lifetime,
                )
                made.append(attention_score.Scorer(unit, self._items, team))
        return made

    def _users(self, requests: Requests, history: Told) -> Array:  # (B, 2, V)
        """Events are made of their items' features here, so that nobody keeps them."""
        request_BD = self._embed.request_of(self._request_tables, requests)
        own = self._tower, self._features, self._vector_IV
        return tower_users.users_anew(*own, history, request_BD)

    def _attention(self, recent: Told, b: int) -> tuple[Array, Array, Array, Array] | None:
        if self._recent is None or self._count_AH is None:
            return None
        return *event_keys.keys(self._recent, recent, b, self._config.events), self._count_AH

    def _even(self, item: Tensor) -> Tensor:
        return self._config.dim**0.5 * torch.from_numpy(self._vector_IV[item.numpy()])
