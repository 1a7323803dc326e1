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
from torch import Tensor, nn

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ._pooled import Pooled, PooledConfig


@final
class ESMM(Pooled):
    """A tower a task over shared embeddings; the probability of a task is a product of towers."""

    class Config(PooledConfig):
        """Settings of ESMM; the paper's towers have hidden layers of 360-200-80."""

        kind: Literal["esmm"] = "esmm"

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> ESMM:
            return ESMM(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)
        self.towers = nn.ModuleList(config.layers(self.width, 1) for _ in tasks)

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        """Of each task over all impressions: pCTR, pCTCVR, ..."""
        link_NT = self.links(requests, candidates)
        logits = [link_NT[:, 0]]
        for link_N in link_NT.unbind(1)[1:]:
            logits.append(both(logits[-1], link_N))
        return torch.stack(logits, dim=1)

    def links(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        """Of each task given the one before: pCTR, pCVR, ..."""
        input_ND = self.inputs(requests, candidates)
        return torch.cat([tower(input_ND) for tower in self.towers], dim=1)


def both(a_N: Tensor, b_N: Tensor) -> Tensor:
    """The logit of ``σ(a) σ(b)``, without leaving logits: no probability rounds to 0 or 1."""
    return -torch.stack([-a_N, -b_N, -a_N - b_N]).logsumexp(0)
