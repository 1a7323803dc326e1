"""Entire-space multi-task model, Ma et al., SIGIR 2018, arXiv:1804.07931.

Tasks in a row, each possible only after the one before: ``pCTCVR = pCTR · pCVR`` (section "Modeling
over entire space"). Losses are those of click and of click and conversion, over all impressions, so
that the conversion tower is neither trained on clicks alone nor starved of data; embeddings are
shared ("Feature representation transfer"). Differences: any number of tasks, in the order of
``samples.tasks``; a later task's event counts as it is in the log, with or without the earlier one;
the history enters as its mean.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.embedder import Embedder
from ..nn.mlp import Activation, mlp
from ..ops import ragged
from ._base import Ranker, RankerConfig


@final
class ESMM(Ranker):
    """A tower a task over shared embeddings; the probability of a task is a product of towers."""

    class Config(RankerConfig):
        """Settings of ESMM."""

        kind: Literal["esmm"] = "esmm"
        history: str = "history"
        """The sequence to pool."""
        hidden: tuple[int, ...] = Field(default=(128, 64), min_length=1)
        """Widths of each tower's hidden layers; the paper has 360-200-80."""
        activation: Activation = "prelu"
        dropout: float = Field(default=0.0, ge=0, lt=1)

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> ESMM:
            return ESMM(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.embed = Embedder(space, ("user", "context", "item", "cross"))
        width = self.embed.dim("user", "context", "item", "item", "cross")
        self.towers = nn.ModuleList(
            mlp(width, *config.hidden, 1, activation=config.activation, dropout=config.dropout)
            for _ in tasks
        )

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        """Of each task over all impressions: pCTR, pCTCVR, ..."""
        link_NT = self.links(requests, candidates)
        logits = [link_NT[:, 0]]
        for link_N in link_NT.unbind(1)[1:]:
            logits.append(both(logits[-1], link_N))
        return torch.stack(logits, dim=1)

    def links(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        """Of each task given the one before: pCTR, pCVR, ..."""
        history = requests.ragged(f"{self.config.history}.item")
        item_ND, event_ED = self.item_vectors(candidates.item_id.values, history.values)
        pooled_BD = ragged.segment_mean(event_ED, history.offsets)
        request_BD = torch.cat([self.embed.request(requests), pooled_BD], dim=-1)
        request_ND = candidates.item_id.spread(request_BD)
        input_ND = torch.cat([request_ND, item_ND, self.embed.cross(candidates)], dim=-1)
        return torch.cat([tower(input_ND) for tower in self.towers], dim=1)


def both(a_N: Tensor, b_N: Tensor) -> Tensor:
    """The logit of ``σ(a) σ(b)``, without leaving logits: no probability rounds to 0 or 1."""
    return -torch.stack([-a_N, -b_N, -a_N - b_N]).logsumexp(0)
