"""Deep Interest Network, Zhou et al., KDD 2018, arXiv:1706.06978.

Target attention of section 4.3 over the history, Dice of 5.3 and mini-batch-aware regularisation
of 5.2 as settings. Paper and the authors' code differ in the weights: the paper leaves them
unnormalised, the code applies a softmax; ``norm`` chooses. Differences: the event's age is an input
of the attention unit; one logit a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.age import NUM_AGES, age_ids
from ..nn.embedder import INITIAL_SD, Embedder
from ..nn.mlp import Activation, mlp
from ..nn.pointwise import Countable
from ..nn.target_attention import Norm, TargetAttention
from ..schema import Side
from ._base import Ranker, RankerConfig

_SIDES: tuple[Side, ...] = ("user", "context", "item", "cross")


@final
class DIN(Ranker):
    """Target attention over one behaviour sequence, then an MLP over everything."""

    class Config(RankerConfig):
        """Settings of DIN."""

        kind: Literal["din"] = "din"
        history: str = "history"
        """The sequence to attend to."""
        attend: tuple[str, ...] = ()
        """Item features that make up target and events; default: all."""
        attention: tuple[int, ...] = Field(default=(36,), min_length=1)
        """Hidden widths of the activation unit."""
        norm: Norm = "none"
        """Attention weights: none (paper), sqrt (of the length), or softmax (authors' code)."""
        age_dim: int = Field(default=8, ge=0)
        """Width of the embedding of an event's age; 0 leaves age out, as in the paper."""
        hidden: tuple[int, ...] = Field(default=(128, 64), min_length=1)
        """Widths of the hidden layers."""
        activation: Activation = "dice"
        """Of the hidden layers; the activation unit keeps PReLU."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        table_l2: float = Field(default=0.0, ge=0)
        """Mini-batch-aware L2 of the embedding tables; the paper uses 0.01."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> DIN:
            return DIN(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.embed = Embedder(space, _SIDES)
        attend = config.attend or tuple(space.schema.names("item"))
        dim = self.embed.width(attend)
        self._attended = self.columns_of(attend)
        self.age = nn.Embedding(NUM_AGES, config.age_dim)
        nn.init.normal_(self.age.weight, std=INITIAL_SD)
        self.attention = TargetAttention(
            dim, config.attention, norm=config.norm, side_dim=config.age_dim
        )
        self.head = mlp(
            self.embed.dim(*_SIDES) + dim,
            *config.hidden,
            len(tasks),
            activation=config.activation,
            dropout=config.dropout,
        )

    def prepare(self, batches: Countable) -> None:
        """Count how often each id of each table occurs, for the regularisation (n_j of eq. 6)."""
        if self.config.table_l2:
            for batch in batches.epoch(0):
                history = batch.requests.ragged(f"{self.config.history}.item")
                self.embed.count(batch.requests, batch.candidates, history.values)

    def table_decay(self) -> Mapping[str, tuple[float, Tensor]]:
        """Strength of the regularisation and occurrences of each row, by parameter name."""
        if not self.config.table_l2:
            return {}
        return {
            f"embed.tables.{name}.weight": (self.config.table_l2, count)
            for name, count in self.embed.counts.items()
        }

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        history = requests.ragged(f"{self.config.history}.item")
        ages_E = age_ids(requests.ragged(f"{self.config.history}.time_ms"), requests.time_ms)
        item_ND, event_ED = self.item_vectors(candidates.item_id.values, history.values)
        interest_ND = self.attention(
            item_ND[:, self._attended],
            candidates.item_id,
            event_ED[:, self._attended],
            self.age(ages_E),
            history,
        )
        request_ND = candidates.item_id.spread(self.embed.request(requests))
        inputs = [request_ND, item_ND, interest_ND, self.embed.cross(candidates)]
        return self.head(torch.cat(inputs, dim=-1))
