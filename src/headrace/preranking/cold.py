"""COLD, the computing-cost-aware online and lightweight deep pre-ranking system.

Wang et al., DLP-KDD 2020, arXiv:2007.16122: full interaction with cross features, at a cost that
is chosen. Inputs come in groups, one a feature; a squeeze block tells their importance (section
3.2), and ``keep`` says how many of the most important are read at all.

Departures: the mean of a history's item vectors is a group too; ids only, hence ``linear_log`` acts
on their vectors; one logit a task. What serves does not multiply the inputs by the first layer: as
every group is squashed and scaled by itself, its part of the first layer is made once a bundle for
each item and each value of a cross feature, once a request for the user, and then only added up.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..data import Batch, Candidates, Ragged, Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..nn.embedder import Embedder
from ..nn.gates import Input, Stack
from ..nn.losses import task_losses
from ..nn.mlp import Activation, Layers
from ..nn.squeeze import Squeeze, linear_log, request_layer
from ..ops import first_layer, ragged
from ..ops.first_layer import Layer
from ..schema import Schema, Side
from ._base import PreRanker, PreRankerConfig

Array = NDArray[Any]
NOTHING = Ragged(torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))  # no history
SIDES: tuple[Side, ...] = ("user", "context", "item", "cross")


@dataclass(frozen=True, slots=True)
class _Ready:
    """All that serving needs, made ahead: parts of the first layer, and the layers above it."""

    tables: tuple[Array, ...]  # of what is known of requests
    request: Layer
    event_IM: Array  # of which a history is the mean; nothing where none is read
    item_IH: Array
    cross_RH: Array  # rows of all cross features' tables, end to end
    start_F: Array  # (F,) int64, where each feature's begin
    rectify: bool  # whether the first activation is done on the way
    above: nn.Sequential
    kind: torch.dtype  # of ``above``


@final
class Cold(PreRanker):
    """Groups of inputs, squashed and squeezed, then layers."""

    class Config(PreRankerConfig, Layers):
        """Settings of Cold."""

        kind: Literal["cold"] = "cold"
        groups: tuple[str, ...] = ()
        """What is read, most important first: features of any side, and the history by the name of
        its sequence. Default: everything. `headrace prerank select` finds the order."""
        keep: int = Field(default=0, ge=0)
        """How many of ``groups`` to read, the first ones; 0 reads all."""
        history: str = "history"
        """The sequence whose mean item vector is a group."""
        hidden: tuple[int, ...] = Field(default=(128, 64), min_length=1)
        """Widths of the hidden layers; the paper's are 1024-512-256-128-64."""
        activation: Activation = "relu"
        squeeze: bool = True
        """Scale groups by their own importance."""
        price: float = Field(default=1e-3, ge=0, le=1)
        """Of a group's mean scale, in the loss; 0 as in the paper. Free scales tell less: those of
        groups without use wander, or rise with what is learnt by heart."""
        squash: bool = True
        """Pass inputs through linear_log."""
        precision: Literal["float32", "bfloat16"] = "float32"
        """Of what serves; `headrace prerank select` measures which is faster."""

        @model_validator(mode="after")
        def _has_so_many(self) -> Cold.Config:
            twice = {name for name in self.groups if self.groups.count(name) > 1}
            if twice:
                raise ValueError(f"groups: names {min(twice)!r} twice")
            if self.keep and not self.groups:
                raise ValueError(
                    "keep: needs groups in the order of their importance; "
                    "`headrace prerank select` finds it"
                )
            if self.keep > len(self.groups):
                raise ValueError(
                    f"keep: {self.keep} of {len(self.groups)} groups; at most {len(self.groups)}"
                )
            return self

        def chosen(self, schema: Schema) -> list[str]:
            """The groups that are read, side by side as the model lays them.

            Raises ConfigError for names that are no groups.
            """
            known = every_group(schema, self.history)
            for name in self.groups:
                if name in schema.names("privileged"):
                    raise ConfigError(
                        f"groups: {name!r} is privileged, known only after the event; "
                        "serving cannot read it"
                    )
                if name not in known:
                    raise ConfigError(f"groups: no feature {name!r}; {suggest(name, known)}")
            wanted = self.groups[: self.keep or None] or known
            return [name for name in known if name in wanted]

        def slimmer(
            self, kept: Sequence[str], dropped: Sequence[str], hidden: tuple[int, ...]
        ) -> Cold.Config:
            """The same with fewer groups and units."""
            del dropped
            groups = tuple(name for name in self.groups or tuple(kept) if name in kept)
            return self.model_copy(update={"groups": groups, "keep": 0, "hidden": hidden})

        def informed(self, only: Sequence[str]) -> Cold.Config:
            """The same layers over every group, or over ``only`` some."""
            change = {"groups": tuple(only), "keep": 0, "precision": "float32", "distill": None}
            return self.model_copy(update=change)

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> Cold:
            return Cold(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        schema = space.schema
        self.groups = config.chosen(schema)
        self._remembers = config.history in self.groups
        self.reads_sequences = (config.history,) if self._remembers else ()
        self.embed = Embedder(space, SIDES, leave_out=self._unread(schema))
        every = self.embed.names["item"]
        self._items = [name for name in every if name in self.groups]
        self._item_columns = self.columns_of(self._items) if self._items else torch.arange(0)
        past = self.embed.dim("item") if self._remembers else 0
        widths = [
            past if name == config.history else self.embed.width([name]) for name in self.groups
        ]
        self._inputs = tuple(map(Input, self.groups, widths))
        request = self.embed.dim("user", "context") + past
        self._sizes = request, self.embed.width(self._items)  # the rest is cross
        self.squeeze = Squeeze(widths) if config.squeeze else None
        self.head = config.layers(sum(widths), len(tasks))
        self._ready: _Ready | None = None

    def _unread(self, schema: Schema) -> list[str]:
        """Features whose tables are not needed. A history needs all of its items'."""
        items = schema.names("item")  # of which an item always has some
        bare = self._remembers or not set(items) & set(self.groups)
        return [n for n in schema.features if n not in self.groups and not (bare and n in items)]

    def stack(self) -> Stack:
        """All groups may go."""
        if self.squeeze is None:
            return Stack("head", self._inputs)
        return Stack("head", self._inputs, ("squeeze.weight",), ("squeeze.bias",))

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        if self._ready is not None:
            return self._serve(self._ready, requests, candidates)
        return self.head(self.inputs(requests, candidates))

    def inputs(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, D)
        """What enters the layers: every group, squashed and squeezed."""
        x_ND = self._raw(requests, candidates)
        return (
            x_ND if self.squeeze is None else self.squeeze.scaled(x_ND, self.squeeze.scales(x_ND))
        )

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Weighted mean cross-entropy of each task, and the price of the scales."""
        if self.squeeze is None or not self.config.price:
            return super().loss(batch)
        x_ND = self._raw(batch.requests, batch.candidates)
        scale_NG = self.squeeze.scales(x_ND)
        logit_NT = batch.sampled(self.head(self.squeeze.scaled(x_ND, scale_NG)))
        losses = task_losses(logit_NT, batch, dict.fromkeys(self.tasks, 1.0))
        total = self.config.price * (scale_NG.sum(1) @ batch.weight) / max(len(x_ND), 1)
        return {**losses, "scales": total}

    def importance(self, requests: Requests, candidates: Candidates) -> Tensor:  # (G,)
        """Mean scale of each group over some candidates, in the order of ``groups``."""
        if self.squeeze is None:
            raise ConfigError("preranking.squeeze: must be true to tell importance")
        return self.squeeze.scales(self._raw(requests, candidates)).mean(0)

    def _raw(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, D)
        item_N = candidates.item_id.values
        if self._remembers:
            past = requests.ragged(f"{self.config.history}.item")
            item_NI, event_EI = self.item_vectors(item_N, past.values)
            request_BD = self._request(requests, event_EI)
        else:
            [item_NI] = self.item_vectors(item_N)
            request_BD = self._request(requests, None)
        request_ND = candidates.item_id.spread(request_BD)
        cross_ND = self.embed.cross(candidates)
        return self._squash(torch.cat([request_ND, item_NI[:, self._item_columns], cross_ND], 1))

    def _request(self, requests: Requests, event_EI: Tensor | None) -> Tensor:  # (B, D)
        request_BD = self.embed.request(requests)
        if event_EI is None:
            return request_BD
        offsets = requests.ragged(f"{self.config.history}.item").offsets
        return torch.cat([request_BD, ragged.segment_mean(event_EI, offsets)], dim=1)

    def _squash(self, x: Tensor) -> Tensor:
        return linear_log(x) if self.config.squash else x

    @torch.inference_mode()
    def freeze(self, chunk: int = 65_536) -> None:
        """Leave training for good: make the parts of the first layer."""
        super().freeze(chunk)
        assert self._frozen is not None
        request, item = self._sizes
        item_IH = torch.cat(
            [self._part(part[:, self._item_columns], request) for part in self._frozen.split(chunk)]
        )
        tables: list[Tensor] = []
        at = request + item
        for name in self.reads_cross:
            table = self.embed.tables[self.embed.table_of(name)].get_parameter("weight")
            tables.append(self._part(table, at))
            at += table.shape[1]
        first = self.head[0]
        assert isinstance(first, nn.Linear)
        cross_RH = torch.cat(tables) if tables else item_IH.new_zeros(0, first.out_features)
        sizes = torch.tensor([0, *(len(table) for table in tables)])
        kind = torch.bfloat16 if self.config.precision == "bfloat16" else torch.float32
        rectify = isinstance(self.head[1], nn.ReLU)
        above = copy.deepcopy(list(self.head)[2 if rectify else 1 :])
        event_IM = self._frozen if self._remembers else self._frozen[:, :0]
        self._ready = _Ready(
            self.embed.tables_of("user", "context"),
            request_layer(first, self.squeeze, request, self.config.squash),
            *(x.contiguous().numpy() for x in (event_IM, item_IH, cross_RH, sizes.cumsum(0)[:-1])),
            rectify=rectify,
            above=nn.Sequential(*above).eval().to(kind),
            kind=kind,
        )
        self._frozen = None

    def _part(self, raw_ND: Tensor, start: int) -> Tensor:  # (N, H)
        """What columns of the inputs from ``start`` on put into the first layer."""
        first = self.head[0]
        assert isinstance(first, nn.Linear)
        x_ND = self._squash(raw_ND)
        columns = torch.arange(start, start + raw_ND.shape[1])
        if self.squeeze is not None and len(columns):
            x_ND = self.squeeze.part(x_ND, columns)
        return x_ND @ first.weight[:, columns].T

    def _serve(self, ready: _Ready, requests: Requests, candidates: Candidates) -> Tensor:
        found = candidates.item_id
        past = requests.ragged(f"{self.config.history}.item") if self._remembers else NOTHING
        request_BH = first_layer.of_requests(
            ready.request,
            self.embed.request_of(ready.tables, requests),
            past.offsets.numpy(),
            past.values.numpy(),
            ready.event_IM,
        )
        ids = [candidates.features[n] for n in self.reads_cross]
        id_FN = torch.stack(ids) if ids else found.values.new_zeros(0, len(found.values))
        first_NH = first_layer.of_candidates(
            request_BH,
            found.offsets.numpy(),
            ready.item_IH,
            found.values.numpy(),
            ready.cross_RH,
            ready.start_F,
            id_FN.numpy(),
            ready.rectify,
        )
        return ready.above(torch.from_numpy(first_NH).to(ready.kind)).float()


def every_group(schema: Schema, history: str) -> list[str]:
    """All groups of inputs there are: as the model lays them, request, item, cross.

    Raises ConfigError if the history does not exist, or shares its name with a feature.
    """
    if history not in schema.sequences:
        raise ConfigError(f"history: no sequence {history!r}; {suggest(history, schema.sequences)}")
    if history in schema.features:
        raise ConfigError(f"history: {history!r} is a sequence and a feature; rename the feature")
    request = [name for side in ("user", "context") for name in schema.names(side)]
    return [*request, history, *schema.names("item"), *schema.names("cross")]
