"""Deep Interest Evolution Network, Zhou et al., AAAI 2019, arXiv:1809.03672.

A GRU over the history, its states trained to know the next event by an auxiliary loss ("Interest
Extractor Layer"), then a second GRU led by attention to the candidate ("Interest Evolving Layer").
The first runs once a request, and so does the projection of its states; the second once a
candidate. Differences: the auxiliary loss is the mean over a history's steps, as in the authors'
code, not their sum; its negatives are uniform over the catalogue, as in the public experiments; the
event's age is an input of the first GRU; one logit a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data import Batch, Candidates, Ragged, Requests
from ..errors import ConfigError
from ..features import FeatureSpace
from ..nn.age import NUM_AGES, age_ids
from ..nn.embedder import INITIAL_SD, Embedder
from ..nn.gates import Input, Stack
from ..nn.losses import task_losses
from ..nn.mlp import FeatureLayers
from ..nn.next_event import NextEvent, Scorer, must_have_others, others
from ..nn.recurrent import GRU
from ..nn.target_attention import CHUNK, chunks
from ..ops import ragged
from ..ops.gru import Gating
from ..schema import Side
from ._base import Ranker, RankerConfig

_SIDES: tuple[Side, ...] = ("user", "context", "item", "cross")


@final
class DIEN(Ranker):
    """Interests evolving along one behaviour sequence, then an MLP over everything."""

    class Config(RankerConfig, FeatureLayers):
        """Settings of DIEN."""

        kind: Literal["dien"] = "dien"
        history: str = "history"
        """The sequence to read."""
        attend: tuple[str, ...] = ()
        """Item features that make up target and events; default: all."""
        state: int = Field(default=32, ge=1, le=1024)
        """Width of both GRUs' states."""
        gating: Gating = "augru"
        """What attention does in the second GRU: scales the update gate (augru), scales the input
        (aigru), or is the update gate (agru)."""
        alpha: float = Field(default=1.0, ge=0)
        """Weight of the auxiliary loss; 0 leaves it out."""
        auxiliary: Scorer = "mlp"
        """How the auxiliary loss scores a state and an event: mlp (authors' code), or inner, their
        product (paper), for which ``state`` must be the width of an event."""
        age_dim: int = Field(default=8, ge=0)
        """Width of the embedding of an event's age; 0 leaves age out, as in the paper."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> DIEN:
            """Make the model. Raises ConfigError if the auxiliary loss cannot be computed."""
            return DIEN(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.reads_sequences = (config.history,)
        self.embed = Embedder(space, _SIDES, leave_out=config.unread(space.schema))
        attend = config.attend or tuple(space.schema.names("item"))
        dim = self.embed.width(attend)
        _check(config, dim, len(space.catalogue))
        self._attended = self.columns_of(attend)
        self.age = nn.Embedding(NUM_AGES, config.age_dim)
        nn.init.normal_(self.age.weight, std=INITIAL_SD)
        self.interest = GRU(dim + config.age_dim, config.state)
        self.attention = nn.Linear(dim, config.state, bias=False)
        self.evolution = GRU(config.state, config.state)
        if config.alpha:
            self.next_event = NextEvent(config.auxiliary, config.state, dim)
        self.head = config.layers(self.embed.dim(*_SIDES) + config.state, len(tasks))

    def stack(self) -> Stack:
        item = Input("item", self.embed.dim("item"), optional=False)  # encoded once a bundle
        evolved = Input("evolved", self.config.state, optional=False)
        groups = self.embed.groups
        return Stack("head", (*groups("user", "context"), item, evolved, *groups("cross")))

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        history = requests.ragged(f"{self.config.history}.item")
        item_ND, event_ED = self.item_vectors(candidates.item_id.values, history.values)
        state_EH = self._interests(requests, event_ED[:, self._attended])
        return self._logits(requests, candidates, item_ND, history.with_values(state_EH))

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Weighted mean cross-entropy of each task, and the auxiliary loss of each history.

        A history counts as much as its request's candidates weigh together.
        """
        if not self.config.alpha:
            return super().loss(batch)
        history = batch.requests.ragged(f"{self.config.history}.item")
        items = batch.candidates.item_id
        other_E = others(history.values, len(self.embed.item_ids))
        item_ND, event_ED, other_ED = self.item_vectors(items.values, history.values, other_E)
        event_ED, other_ED = event_ED[:, self._attended], other_ED[:, self._attended]
        state_EH = self._interests(batch.requests, event_ED)
        logit_NT = self._logits(
            batch.requests, batch.candidates, item_ND, history.with_values(state_EH)
        )
        losses = task_losses(batch.sampled(logit_NT), batch, dict.fromkeys(self.tasks, 1.0))
        loss_B = self.next_event(state_EH, event_ED, other_ED, history.offsets)
        weight_B = ragged.segment_sum(batch.weight, items.offsets)
        auxiliary = (loss_B @ weight_B) / max(len(items.values), 1)
        return {**losses, "next_event": self.config.alpha * auxiliary}

    def _interests(self, requests: Requests, event_ED: Tensor) -> Tensor:  # (E, H)
        """The first GRU: what the user is interested in after each event."""
        time_ms = requests.ragged(f"{self.config.history}.time_ms")
        age_ES = self.age(age_ids(time_ms, requests.time_ms))
        return self.interest(torch.cat([event_ED, age_ES], dim=1), time_ms.offsets)

    def _logits(
        self, requests: Requests, candidates: Candidates, item_ND: Tensor, states: Ragged
    ) -> Tensor:  # (N, T)
        items = candidates.item_id
        target_NH = self.attention(item_ND[:, self._attended])
        evolved_NH = self.evolution.led(
            self.config.gating,
            states.values,
            attention(items.with_values(target_NH), states),
            items.spread(states.offsets[:-1]),
            items.spread(states.lengths),
        )
        request_ND = items.spread(self.embed.request(requests))
        inputs = [request_ND, item_ND, evolved_NH, self.embed.cross(candidates)]
        return self.head(torch.cat(inputs, dim=-1))


def attention(targets: Ragged, states: Ragged) -> Tensor:  # (N, L)
    """Softmax over a request's states of their products with each of its candidates."""
    state_BLH, mask_BL = ragged.pad(states.values, states.offsets)
    row_C, at_CM, place_N = chunks(targets.offsets, CHUNK)
    logit_CML = targets.values[at_CM] @ state_BLH[row_C].transpose(1, 2)
    mask_C1L = mask_BL[row_C].unsqueeze(1)
    lowest = torch.finfo(logit_CML.dtype).min  # -inf would make an empty history NaN
    return logit_CML.masked_fill(~mask_C1L, lowest).softmax(dim=2).flatten(0, 1)[place_N]


def _check(config: DIEN.Config, dim: int, num_items: int) -> None:
    if config.alpha and config.auxiliary == "inner" and config.state != dim:
        raise ConfigError(
            f'dien: auxiliary = "inner" multiplies states and events, but state = {config.state} '
            f'and events have width {dim}; set state = {dim} or auxiliary = "mlp"'
        )
    if config.alpha:
        must_have_others(num_items, "dien")
