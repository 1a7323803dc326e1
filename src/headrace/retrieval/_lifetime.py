"""The long part of a searchable scorer: a lifetime of events, grouped by the candidate's category.

B  requests    N  candidates    E  events kept    P  pairs of a request and a category
V  width of an item's vector    D  of query and key    W  of a value    H  of the layer entered
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from .. import config
from ..data import Requests
from ..nn.age import NUM_AGES, STARTS_MS, age_ids
from ..nn.embedder import INITIAL_SD
from ..nn.search import INITIAL_SHARPNESS, attend_rows, direction
from ..ops import event_groups, ragged, row_attention
from ..ops.attention_score import Lifetime
from ..ops.event_groups import Folded
from ..ops.event_pools import Told
from ..ops.lanes import padded

Array = NDArray[Any]


class LifelongConfig(config.Config):
    """Settings of Lifelong."""

    sequence: str = "lifetime"
    """The long sequence."""
    hits: int = Field(default=50, ge=1, le=10_000)
    """Newest events of a category that are attended to."""
    head_dim: int = Field(default=16, ge=1, le=1024)
    """Width of query and key."""
    value_dim: int = Field(default=16, ge=1, le=1024)
    """Width of what an event says."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Keys and values of the events of each request in each category that it has any in."""

    code_P: Tensor  # int64, ascending: request * categories + category
    start_P: Tensor  # int64
    length_P: Tensor  # int64
    key_ED: Tensor
    bias_E: Tensor
    value_EW: Tensor

    def rows(self, code_N: Tensor) -> tuple[Tensor, Tensor]:
        """First event and number of events of some pairs; 0 of pairs without any."""
        if not len(self.code_P):
            return torch.zeros_like(code_N), torch.zeros_like(code_N)
        at_N = torch.searchsorted(self.code_P, code_N).clamp_(max=len(self.code_P) - 1)
        return self.start_P[at_N], self.length_P[at_N] * (self.code_P[at_N] == code_N)


@dataclass(frozen=True, slots=True)
class FusedLifelong:
    """The user half of ``Lifelong`` by a kernel."""

    config: LifelongConfig
    made: Folded
    nothing_X: Array  # (W + 1,)
    out_XH: Array  # (W + 1, H), padded

    def of(self, events: Mapping[str, Told], b: int) -> Lifetime:
        """What the fused score reads of request ``b``."""
        found = event_groups.groups(self.made, events[self.config.sequence], b, self.config.hits)
        return Lifetime(self.made.category_I, 0, *found, self.nothing_X, self.out_XH)


@final
class Lifelong(nn.Module):
    """Target attention over the user's events in the candidate's category (SIM, hard search).

    Pi et al. 2020, arXiv:2006.05639, with the departures of ``nn.search.ExactSearchUnit``: cosines
    of learned sharpness, a bias by age, and the log of the sum of exponentials, which for events of
    the item itself is about the log of their number. Keys and values are made once a request,
    grouped by category; a candidate finds its group by one binary search.
    """

    category: Tensor  # (I,) int64

    def __init__(self, config: LifelongConfig, dim: int, outputs: int, category_I: Tensor) -> None:
        """``dim`` is V, ``outputs`` is H; ``category_I`` is each item's category."""
        super().__init__()
        self.config = config
        self.query = nn.Linear(dim, config.head_dim, bias=False)
        self.key = nn.Linear(dim, config.head_dim, bias=False)
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)  # like finds like from the start
        self.sharpness = nn.Parameter(torch.full((1,), INITIAL_SHARPNESS))
        self.age_bias = nn.Parameter(torch.zeros(NUM_AGES))
        self.age = nn.Parameter(torch.randn(NUM_AGES, config.value_dim) * INITIAL_SD)
        self.value = nn.Linear(dim, config.value_dim, bias=False)
        self.nothing = nn.Parameter(torch.zeros(config.value_dim + 1))
        self.out = nn.Linear(config.value_dim + 1, outputs, bias=False)
        self.register_buffer("category", category_I, persistent=False)
        self._categories = 1 + int(category_I.max()) if len(category_I) else 1

    def queries(self, vector_MV: Tensor) -> Tensor:  # (M, D)
        """The item half."""
        return self.sharpness * direction(self.query(vector_MV))

    def users(self, requests: Requests, look_up: Callable[[Tensor], Tensor]) -> Groups:
        """The user half; ``look_up`` gives the vectors of items."""
        item = requests.ragged(f"{self.config.sequence}.item")
        time_ms = requests.ragged(f"{self.config.sequence}.time_ms")
        code_E = item.row * self._categories + self.category[item.values]
        order_E = code_E.argsort(stable=True)  # by (request, category, time)
        code_P, count_P = torch.unique_consecutive(code_E[order_E], return_counts=True)
        to_end_E = count_P.cumsum(0).repeat_interleave(count_P) - torch.arange(len(order_E))
        kept_E = order_E[to_end_E <= self.config.hits]
        length_P = count_P.clamp(max=self.config.hits)
        vector_EV = look_up(item.values[kept_E])
        age_E = age_ids(time_ms, requests.time_ms)[kept_E]
        return Groups(
            code_P,
            length_P.cumsum(0) - length_P,
            length_P,
            direction(self.key(vector_EV)),
            self.age_bias[age_E] - self.sharpness,  # what equals the target counts one
            self.value(vector_EV) + self.age[age_E],
        )

    def forward(self, groups: Groups, request: Tensor, item: Tensor, query: Tensor) -> Tensor:
        """What the lifetime adds to the layer, ``(..., n, H)``; of request ``request``."""
        code_N = (request * self._categories + self.category[item]).flatten()
        query_ND = query.reshape(len(code_N), -1).float()
        start_N, length_N = groups.rows(code_N)
        if torch.is_grad_enabled() or query.device.type != "cpu":
            said_NX = self._plain(groups, query_ND, start_N, length_N)
        else:
            arrays = query_ND, groups.key_ED, groups.bias_E, groups.value_EW
            said_NX = torch.from_numpy(
                row_attention.attend(
                    *(
                        x.detach().contiguous().numpy()
                        for x in (*arrays, start_N, length_N, self.nothing)
                    )
                )
            )
        return self.out(said_NX).unflatten(0, item.shape)

    @torch.no_grad()
    def fused(self, vector_IV: Tensor) -> FusedLifelong:
        """The user half as it serves: keys and values are made here, once an item."""
        made = Folded(
            self.category.numpy(),
            direction(self.key(vector_IV)).numpy(),
            self.value(vector_IV).numpy(),
            (self.age_bias - self.sharpness).numpy(),
            self.age.detach().numpy(),
            STARTS_MS.numpy(),
        )
        out_XH = padded(self.out.weight.detach().numpy().T)
        return FusedLifelong(self.config, made, self.nothing.detach().numpy(), out_XH)

    def _plain(
        self, groups: Groups, query_ND: Tensor, start_N: Tensor, length_N: Tensor
    ) -> Tensor:  # (N, W + 1)
        """In plain PyTorch, pair by pair."""
        offsets = torch.cat([length_N.new_zeros(1), length_N.cumsum(0)])
        row_P = ragged.rows_of(offsets, int(offsets[-1]))
        at_P = start_N[row_P] + torch.arange(len(row_P)) - offsets[:-1][row_P]
        dot_P = (query_ND.index_select(0, row_P) * groups.key_ED.index_select(0, at_P)).sum(1)
        logit_P1 = (dot_P + groups.bias_E.index_select(0, at_P)).unsqueeze(1)
        said_NX = attend_rows(logit_P1, groups.value_EW.index_select(0, at_P), offsets)
        return torch.where(length_N.unsqueeze(1) > 0, said_NX, self.nothing)
