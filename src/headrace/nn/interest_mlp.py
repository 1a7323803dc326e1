"""The body of rankers with target attention: recent events by DIN, then an MLP over everything."""

from __future__ import annotations

from typing import final

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data import Candidates, Requests
from ..schema import Side
from .age import NUM_AGES, age_ids
from .embedder import INITIAL_SD, Embedder
from .gates import Input, Stack
from .mlp import FeatureLayers
from .target_attention import Norm, TargetAttention, UnitActivation

SIDES: tuple[Side, ...] = ("user", "context", "item", "cross")


@final
class InterestMLP(nn.Module):
    """Features of every side, interest in the light of the candidate, and what a model adds."""

    class Config(FeatureLayers):
        """Settings of InterestMLP; a ranker's own extend them. The activation unit keeps PReLU."""

        history: str = "history"
        """The sequence of recent events to attend to."""
        attend: tuple[str, ...] = ()
        """Item features that make up target and events; default: all."""
        attention: tuple[int, ...] = Field(default=(36,), min_length=1)
        """Hidden widths of the activation unit."""
        norm: Norm = "none"
        """Attention weights: none (paper), sqrt (of the length), or softmax (authors' code)."""
        age_dim: int = Field(default=8, ge=0)
        """Width of the embedding of an event's age; 0 leaves age out, as in the paper."""
        attention_activation: UnitActivation = "prelu"
        """Of the activation unit."""

    def __init__(
        self, config: Config, embed: Embedder, dim: int, num_tasks: int, *, extra: int = 0
    ) -> None:
        """``dim`` is the width of what is attended to, ``extra`` of what ``forward`` is given."""
        super().__init__()
        self.history = config.history
        self.age = nn.Embedding(NUM_AGES, config.age_dim)
        nn.init.normal_(self.age.weight, std=INITIAL_SD)
        self.attention = TargetAttention(
            dim,
            config.attention,
            norm=config.norm,
            activation=config.attention_activation,
            side_dim=config.age_dim,
        )
        self.head = config.layers(embed.dim(*SIDES) + dim + extra, num_tasks)
        item = Input("item", embed.dim("item"), optional=False)  # encoded once a bundle: for free
        interest = [Input("interest", dim, optional=False), *embed.groups("cross")]
        every = [*embed.groups("user", "context"), item, *interest]
        self._inputs = (*every, Input("extra", extra, optional=False)) if extra else tuple(every)

    def stack(self, path: str) -> Stack:
        """The layers under the outputs, of a body that stands at ``path`` in its model."""
        return Stack(f"{path}.head", self._inputs)

    def forward(
        self,
        embed: Embedder,
        requests: Requests,
        candidates: Candidates,
        item_NI: Tensor,
        target_ND: Tensor,
        event_ED: Tensor,
        *extra_NX: Tensor,
    ) -> Tensor:  # (N, T) logits
        """``item_NI`` are all item features; ``target_ND`` and ``event_ED`` those attended to."""
        history = requests.ragged(f"{self.history}.item")
        age_EA = event_ED.new_zeros(len(event_ED), 0)
        if self.age.embedding_dim:
            ages_E = age_ids(requests.ragged(f"{self.history}.time_ms"), requests.time_ms)
            age_EA = self.age(ages_E)
        interest_ND = self.attention(target_ND, candidates.item_id, event_ED, age_EA, history)
        request_NX = candidates.item_id.spread(embed.request(requests))
        inputs = [request_NX, item_NI, interest_ND, embed.cross(candidates), *extra_NX]
        return self.head(torch.cat(inputs, dim=-1))
