"""End-to-end Target Attention, Chen et al., arXiv:2108.04468 and 2209.12212.

SimHash turns each item vector into bits, ``h(x) = sign(x R)`` with a fixed random R for target and
events alike; the K events of least Hamming distance are attended to. The codes follow the ranker's
own embeddings as these learn, so that there is no index to fall behind.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.search import ExactSearchUnit, sim_hash
from ._lifelong import Lifelong, SearchConfig


@final
class ETA(Lifelong):
    """Search by Hamming distance of hashed embeddings."""

    class Config(SearchConfig):
        """Settings of ETA."""

        kind: Literal["eta"] = "eta"
        bits: int = Field(default=256, ge=1, le=4096)
        """Of a code."""
        heads: int = Field(default=2, ge=1, le=64)
        """Of the exact search unit."""
        head_dim: int = Field(default=16, ge=1, le=1024)
        """Width of queries and keys of a head."""
        interval_dim: int = Field(default=8, ge=0, le=1024)
        """Width of the embedding of a found event's age; 0 leaves it out."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> ETA:
            return ETA(self, space, tasks)

    planes: Tensor  # (D, bits)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)
        self.config = config
        self.exact = ExactSearchUnit(self.dim, config.interval_dim, config.heads, config.head_dim)
        self.add_body(self.exact)
        self.register_buffer("planes", torch.randn(self.dim, config.bits))

    def freeze(self, chunk: int = 65_536) -> None:
        super().freeze(chunk)
        self.know(self.codes, chunk)

    def interest(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        """What the exact search unit makes of the events of nearest code."""
        long = self.long_events(requests, apart=self.config.apart)
        # codes of ±1: their inner product is the number of bits less twice the Hamming distance
        code_NS = sim_hash(self.exact.centre(target_ND), self.planes)
        found = self.search(candidates, long, self.config.hits, code_NS, self.codes)
        event_NKD = self.events(found.item_NK)
        return self.exact(target_ND, event_NKD, found.age_NK, found.real_NK)

    def codes(self, item_U: Tensor) -> Tensor:  # (U, bits) of ±1
        """What events are found by."""
        return sim_hash(self.exact.centre(self.events(item_U)), self.planes)
