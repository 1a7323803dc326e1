"""What ``benchmarks/foil.py`` searches: a catalogue, requests, and a scorer that comes apart.

I  items, 0 is none    R  requests    D  width of an item's vector    X  width of an item's row
n  items scored at a time             L  events of a history          Q, H  attention, first layer
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headrace.ops.graph_search import Score

CHUNK = 4096  # rows scored at a time: what is between two layers stays in the cache
CLUSTER, LATENT, NOISE = 250, 16, 0.6  # items of a cluster, its dimensions, its spread
EVENTS, TASTES = 50, 3


class Case(Protocol):
    """A catalogue and its scorer; requests are named by number, later ones than any trained on."""

    vector_ID: Tensor
    """Where items lie, float32."""
    row_bytes: int
    """Of the item part of an item that the cross reads."""
    flops: float
    """Operations of the cross for one item, a multiplication and its addition being two."""
    target_R: NDArray[np.int64]
    """What each request led to."""

    def score(self, request_B: NDArray[np.int64]) -> Score:
        """Make the user part of some requests; what is returned scores items for them."""
        ...

    def scan(self, request: int) -> Tensor:  # (I,) float32
        """Score every item, in order, in the fastest way there is."""
        ...


@dataclass(frozen=True)
class World:
    """Items in clusters on a curved sheet of few dimensions, and people with a few tastes."""

    vector_ID: Tensor
    event_RL: NDArray[np.int64]
    target_R: NDArray[np.int64]

    @classmethod
    def planted(cls, num_items: int, num_requests: int, dim: int, seed: int) -> World:
        """Draw it."""
        rng = np.random.default_rng(seed)
        num_clusters = max(2, num_items // CLUSTER)
        family = rng.standard_normal((math.ceil(num_clusters / 30), LATENT))
        centre = family[rng.integers(len(family), size=num_clusters)]
        centre = 0.7 * centre + 0.7 * rng.standard_normal(centre.shape)
        cluster_I = rng.integers(num_clusters, size=num_items)
        latent = centre[cluster_I] + NOISE * rng.standard_normal((num_items, LATENT))
        first, second = (rng.standard_normal((LATENT, dim)) for _ in range(2))
        vector = latent @ first + 0.3 * np.sin(latent @ second)
        vector /= np.linalg.norm(vector, axis=1, keepdims=True)
        vector[0] = 0
        order = np.argsort(cluster_I, kind="stable")
        bounds = np.searchsorted(cluster_I[order], np.arange(num_clusters + 1))
        filled = np.flatnonzero(np.diff(bounds))
        taste = filled[rng.integers(len(filled), size=(num_requests, TASTES))]
        some = np.take_along_axis(taste, rng.integers(TASTES, size=(num_requests, EVENTS + 1)), 1)
        low, high = bounds[some], bounds[some + 1]
        item = order[(low + rng.random(some.shape) * (high - low)).astype(np.int64)]
        return cls(torch.from_numpy(vector.astype(np.float32)), item[:, :-1], item[:, -1])


@dataclass(frozen=True)
class User:
    """The user part of a request."""

    key_QL: Tensor
    value_LH: Tensor  # multiplied into the first layer
    half_H: Tensor


class StandIn:
    """Target attention with weights drawn, not trained: to be replaced by ``retrieval.foil``.

    The arithmetic is that of the trained scorer (a head over 50 events, a net of 128-64-1, folded);
    a term for how much of the history an item is like makes the score as smooth along the vectors
    as training does.
    """

    def __init__(
        self, world: World, *, query: int = 32, hidden: tuple[int, int] = (128, 64), seed: int = 0
    ) -> None:
        g = torch.Generator().manual_seed(seed)
        dim = world.vector_ID.shape[1]

        def drawn(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=g) / math.sqrt(rows)

        self.target_R = world.target_R
        self.vector_ID = world.vector_ID
        self._event_RL = world.event_RL
        self._query_DQ = torch.linalg.qr(drawn(dim, query)).Q * math.sqrt(dim / query)
        self._item_DH, self._user_DH, self._value_DH = (drawn(dim, hidden[0]) for _ in range(3))
        self._second, self._third = drawn(*hidden), drawn(hidden[1], 1)
        self._row_IX = torch.cat(
            [world.vector_ID @ self._item_DH, 6 * world.vector_ID @ self._query_DQ], dim=1
        )
        self.row_bytes = self._row_IX.shape[1] * self._row_IX.element_size()
        first, second = hidden
        self.flops = 2.0 * (query * EVENTS + EVENTS * first + first * second + second)

    def score(self, request_B: NDArray[np.int64]) -> Score:
        """As ``Case`` says."""
        users = [self._user(int(r)) for r in request_B]

        @torch.inference_mode()
        def scored(row_N: NDArray[np.int64], item_N: NDArray[np.int32]) -> NDArray[np.float32]:
            bound = np.searchsorted(row_N, np.arange(len(users) + 1))
            out = torch.empty(len(item_N))
            for b, user in enumerate(users):
                for a in range(bound[b], bound[b + 1], CHUNK):
                    z = min(a + CHUNK, int(bound[b + 1]))
                    row_nX = self._row_IX.index_select(0, torch.from_numpy(item_N[a:z]))
                    out[a:z] = self._cross(user, row_nX)
            return out.numpy()

        return scored

    @torch.inference_mode()
    def scan(self, request: int) -> Tensor:  # (I,)
        """As ``Case`` says."""
        user = self._user(request)
        return torch.cat([self._cross(user, row_nX) for row_nX in self._row_IX.split(CHUNK)])

    @torch.inference_mode()
    def _user(self, request: int) -> User:
        event_LD = self.vector_ID[self._event_RL[request]]
        key_QL = (6 * event_LD @ self._query_DQ).T.contiguous()
        return User(key_QL, event_LD @ self._value_DH, event_LD.mean(0) @ self._user_DH)

    def _cross(self, user: User, row_nX: Tensor) -> Tensor:  # (n,)
        width = len(user.half_H)
        logit_nL = row_nX[:, width:] @ user.key_QL
        alike_n1 = logit_nL.logsumexp(1, keepdim=True)
        hidden_nH = torch.addmm(row_nX[:, :width], (logit_nL - alike_n1).exp_(), user.value_LH)
        hidden = hidden_nH.add_(user.half_H).relu_() @ self._second
        return torch.addmm(0.5 * alike_n1, hidden.relu_(), self._third)[:, 0]
