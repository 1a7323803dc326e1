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
from ..ops import attention_score, tower_users
from ..ops.event_pools import Told
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
        self._config, self._embed, self._reads = config, scorer.embed, scorer.sequences
        self._vector_IV = vector_IV.numpy()
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
        self._long = scorer.lifelong and scorer.lifelong.fused(scale * vector_IV)
        self._recent = None
        if scorer.recent is not None and scorer.attends_to is not None:
            own = scorer.attends_to, config.events
            self._recent = scorer.recent.fused(vector_IV, scale, *own)

    def __call__(self, requests: Requests) -> list[Scores]:
        """Make the user part of each request."""
        team = torch.get_num_threads()
        with torch.no_grad(), threads(1):  # a team waits longer for itself than it works
            events = {name: told(requests, name) for name in self._reads}
            product_BV, user_BV = self._users(requests, events).transpose(1, 0, 2)
            product_BV = product_BV / np.float32(self._config.temperature)
            half_BH, made = user_BV @ self._user_VH, list[Scores]()
            for b in range(len(requests)):
                unit = attention_score.unit(
                    product_BV[b],
                    half_BH[b],
                    self._recent and self._recent.of(events, b),
                    self._net,
                    self._long and self._long.of(events, b),
                )
                made.append(attention_score.Scorer(unit, self._items, team))
        return made

    def _users(self, requests: Requests, events: Mapping[str, Told]) -> Array:  # (B, 2, V)
        """Events are made of their items' features here, so that nobody keeps them."""
        request_BD = self._embed.request_of(self._request_tables, requests)
        own = self._tower, self._features, self._vector_IV
        return tower_users.users_anew(*own, events[self._config.history], request_BD)
