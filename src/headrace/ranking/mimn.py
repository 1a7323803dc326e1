"""Multi-channel user Interest Memory Network, Pi et al., KDD 2019, arXiv:1905.09248.

A user is a memory of constant size. Each event is one step: a controller addresses slots, erases
and adds (a neural Turing machine, section 3.3.1), writes are spread by past usage (memory
utilisation regularisation, 3.3.2), and channels beside the slots that were read most follow the
event (memory induction unit, 3.3.3). A step costs the same whatever came before, and no candidate
is needed for it: ``behavior.interest_center`` keeps the states of all users up to date, and a
request reads one.

Paper and the authors' code differ; ``variant`` chooses how slots are addressed and balanced,
``read`` whether the candidate takes part in reading. Differences from both: usage is told as
shares, and the regulariser is the squared coefficient of variation of usage, so that neither grows
with the length of a history; recent events go through DIN as well; one logit a task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..data import Batch, Candidates, Ragged, Requests
from ..features import FeatureSpace
from ..nn.losses import task_losses
from ..nn.memory import USER_STATE, Memory, Variant
from ..nn.next_event import NextEvent, must_have_others, others
from ..nn.target_attention import TargetAttention
from ..ops import ragged
from ..ops.distinct import distinct
from ..ops.memory import Sizes
from ._lifelong import Lifelong, LifelongConfig

Array = NDArray[Any]


@final
class MIMN(Lifelong):
    """Recent events by DIN, a lifetime by a memory that is written event by event."""

    class Config(LifelongConfig):
        """Settings of MIMN."""

        kind: Literal["mimn"] = "mimn"
        variant: Variant = "paper"
        """paper: slots are addressed by what they hold, writes weighted by a softmax of past usage.
        code: also by learned keys, sharpened; writes are shifted and sharpened, the controller is
        told the usage."""
        read: Literal["state", "target"] = "state"
        """state: last read, memory and channels as they are (paper). target: one more step of the
        controller for the candidate, attention of the candidate over the channels, and its product
        with the mean slot (code)."""
        slots: int = Field(default=8, ge=1, le=256)
        """Slots of the memory (m)."""
        slot_dim: int = Field(default=16, ge=1, le=1024)
        """Width of a slot (d)."""
        controller: int = Field(default=32, ge=1, le=1024)
        """Width of the controller, a GRU."""
        channel_dim: int = Field(default=32, ge=0, le=1024)
        """Width of a channel of the induction unit; 0 leaves the unit out."""
        top: int = Field(default=1, ge=1, le=256)
        """Channels that follow an event, those of the slots that were read most."""
        utilisation: float = Field(default=0.01, ge=0, le=1000)
        """Weight of the utilisation regularisation; 0 leaves it out, and balancing with it."""
        alpha: float = Field(default=0.0, ge=0, le=100)
        """Weight of DIEN's auxiliary loss on what was seen after each event, an option of the
        authors' code; 0 leaves it out."""

        @model_validator(mode="after")
        def _has_so_many(self) -> MIMN.Config:
            if self.top > self.slots:
                raise ValueError(f"top: {self.top} of {self.slots} slots; at most {self.slots}")
            return self

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> MIMN:
            """Make the model. Raises ConfigError if the auxiliary loss cannot be computed."""
            return MIMN(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)
        self.config = config
        self.remembered, self.reads_with_state = config.long, (config.history,)
        self.sizes = Sizes(config.controller, config.slots, config.slot_dim, config.channel_dim)
        self.memory = Memory(
            self.dim,
            self.sizes,
            top=config.top,
            variant=config.variant,
            balanced=config.utilisation > 0,
        )
        reader = Whole if config.read == "state" else ByTarget
        self.reader = reader(self.dim, self.memory)
        self.add_body(self.reader)
        if config.alpha:
            must_have_others(len(space.catalogue), "mimn")
            self.next_event = NextEvent("mlp", self.memory.seen, self.dim)

    def start(self, size: int) -> Tensor:  # (size, Z)
        """The state of users without events."""
        return self.memory.start(size)

    def step(self, state_BZ: Tensor, item_B: Tensor) -> Tensor:  # (B, Z)
        """The states after one more event each: O(slots · width), however many came before."""
        return self.unroll(Ragged(item_B, torch.arange(len(item_B) + 1)), state_BZ)

    def unroll(self, item: Ragged, state_BZ: Tensor | None = None) -> Tensor:  # (B, Z)
        """The states after rows of events, from given states or from the start."""
        return self._run(item, state_BZ, see=False)[0]

    def interest(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        """What is read of the users' states, kept by somebody or made now."""
        return self.reader(target_ND, candidates.item_id, self.states(requests))

    def states(self, requests: Requests) -> Tensor:  # (B, Z)
        """The column ``user_state``; where it is missing, the long sequences are run through."""
        if USER_STATE in requests.features:
            return requests.tensor(USER_STATE)
        return self.unroll(requests.ragged(f"{self.config.long}.item"))

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Cross-entropy of each task, unevenness of the memory, and the auxiliary loss.

        A history counts as much as its request's candidates weigh together.
        """
        config, candidates = self.config, batch.candidates
        item = batch.requests.ragged(f"{config.long}.item")
        state_BZ, seen_EO = self._run(item, None, see=config.alpha > 0)
        logit_NT = self.logits(
            batch.requests,
            candidates,
            lambda target_ND: self.reader(target_ND, candidates.item_id, state_BZ),
        )
        losses = task_losses(batch.sampled(logit_NT), batch, dict.fromkeys(self.tasks, 1.0))
        weight_B = ragged.segment_sum(batch.weight, candidates.item_id.offsets)
        weight_B = weight_B / max(len(candidates), 1)
        if config.utilisation:
            uneven_B = self.memory.unevenness(state_BZ)
            losses["utilisation"] = config.utilisation * (uneven_B @ weight_B)
        if config.alpha:
            other_E = others(item.values, len(self.embed.item_ids))
            event_ED, other_ED = self.events(item.values), self.events(other_E)
            loss_B = self.next_event(seen_EO, event_ED, other_ED, item.offsets)
            losses["next_event"] = config.alpha * (loss_B @ weight_B)
        return losses

    def encoder(self) -> MemoryEncoder:
        """What an interest center needs to keep states of this model."""
        return MemoryEncoder(self)

    def _run(self, item: Ragged, state_BZ: Tensor | None, *, see: bool) -> tuple[Tensor, Tensor]:
        items_U, (place_E,) = distinct(item.values)
        if state_BZ is None:
            state_BZ = self.start(len(item))
        return self.memory(self.events(items_U), item.with_values(place_E), state_BZ, see=see)


@final
class Whole(nn.Module):
    """The last read, the memory and the channels, side by side, the same for every candidate."""

    def __init__(self, dim: int, memory: Memory) -> None:
        super().__init__()
        del dim
        sizes = memory.sizes
        self._sizes = sizes
        self.width = sizes.width + sizes.slots * (sizes.width + sizes.channel)

    def forward(self, target_ND: Tensor, items: Ragged, state_BZ: Tensor) -> Tensor:  # (N, width)
        """Of each candidate's request."""
        del target_ND
        _, read_BW, _, memory_BSW, channel_BSC = self._sizes.parts(state_BZ)
        return items.spread(torch.cat([read_BW, memory_BSW.flatten(1), channel_BSC.flatten(1)], 1))


@final
class ByTarget(nn.Module):
    """What the candidate finds in a state.

    A step of the controller that writes nothing, the channels that the candidate attends to, and
    its product with the mean slot.
    """

    def __init__(self, dim: int, memory: Memory) -> None:
        super().__init__()
        sizes = memory.sizes
        self._memory = (memory,)  # the model's own, not a second time this module's
        self.width = memory.seen + sizes.width + sizes.channel
        self.to_slot = nn.Linear(dim, sizes.width, bias=False)
        if sizes.channel:
            self.to_channel = nn.Linear(dim, sizes.channel, bias=False)
            self.attention = TargetAttention(sizes.channel, norm="softmax")

    def forward(self, target_ND: Tensor, items: Ragged, state_BZ: Tensor) -> Tensor:  # (N, width)
        """Of each candidate in its request's state."""
        (memory,) = self._memory
        sizes = memory.sizes
        memory_BSW, channel_BSC = sizes.parts(state_BZ)[3:]
        slot_NW = items.spread(memory_BSW.mean(1)) * self.to_slot(target_ND)
        found = [memory.look(target_ND, items.spread(state_BZ)), slot_NW]
        if sizes.channel:
            rows = torch.arange(len(state_BZ) + 1) * sizes.slots
            channel_EC = channel_BSC.flatten(0, 1)
            events = Ragged(channel_EC, rows)
            none_E0 = channel_EC[:, :0]
            target_NC = self.to_channel(target_ND)
            found.append(self.attention(target_NC, items, channel_EC, none_E0, events))
        return torch.cat(found, dim=1)


@final
@dataclass(frozen=True, slots=True)
class MemoryEncoder:
    """A trained model as ``behavior.interest_center.Encoder``: states as arrays."""

    model: MIMN

    @property
    def version(self) -> str:
        """Hash of all that a state depends on: tables of attended features and the memory.

        The reader and the network above may be trained anew under the same version.
        """
        hashed = hashlib.blake2b(digest_size=8)
        config = self.model.config
        settings = (config.variant, config.top, config.utilisation > 0, self.model.attend)
        hashed.update(repr(settings).encode())
        tables = {f"tables.{self.model.embed.table_of(name)}." for name in self.model.attend}
        for name, tensor in sorted(self.model.state_dict().items()):
            if name.startswith("memory.") or any(table in name for table in tables):
                hashed.update(name.encode())
                hashed.update(tensor.numpy(force=True).tobytes())
        return hashed.hexdigest()

    @torch.inference_mode()
    def start(self) -> Array:  # (Z,) float32
        """The state of a user without events."""
        return self.model.start(1)[0].numpy(force=True).copy()

    @torch.inference_mode()
    def advance(self, state_BZ: Array, item_E: Array, offsets: Array) -> Array:  # (B, Z)
        """The states after each row's events, by their numbers in the catalogue."""
        rows = Ragged(torch.from_numpy(item_E.astype(np.int64)), torch.from_numpy(offsets))
        return self.model.unroll(rows, torch.from_numpy(state_BZ)).numpy(force=True)
