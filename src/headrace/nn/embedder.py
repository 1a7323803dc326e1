"""Ids to vectors: the one owner of embedding tables, hence of sharing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data import Candidates, Requests
from ..errors import ConfigError
from ..features import FeatureSpace
from ..ops.embedding_rows import slots
from ..ops.look_up import Column, look_up
from ..ops.side_by_side import side_by_side
from ..schema import Side
from .gates import Input

Array = NDArray[Any]
INITIAL_SD = 0.05  # of table entries; with nn.Embedding's 1.0 ids drown the other inputs


class Embedder(nn.Module):
    """Looks up the features of each side and lays their vectors side by side.

    Tables have sparse gradients. Item features are read from the catalogue by item number, so that
    candidates, histories and whole catalogues are encoded by the same call.
    """

    item_ids: Tensor  # (I, F) int64, the catalogue's item features

    def __init__(
        self,
        space: FeatureSpace,
        sides: Sequence[Side],
        *,
        dim: int | None = None,
        leave_out: Sequence[str] = (),
    ) -> None:
        """Own the tables of the features of ``sides``; ``dim`` overrides every width.

        Raises ConfigError for privileged features: a teacher reads them as crosses, out of a space
        that reveals them.
        """
        super().__init__()
        schema = space.schema
        if "privileged" in sides:
            raise ConfigError("privileged features have no tables in what serves; see distillation")
        own_ids = (n for n in schema.names("user") if schema.features[n].encode == "id")
        self.user_tables = frozenset(f"table_{schema.table_of(n)}" for n in own_ids)
        self.names: dict[str, list[str]] = {
            side: [n for n in schema.names(side) if n not in leave_out] for side in sides
        }
        every = [n for names in self.names.values() for n in names]
        # prefixed, since a ModuleDict refuses names that Module has, such as "type"
        self._table_of = {n: f"table_{schema.table_of(n)}" for n in every}
        self._dim_of = {n: dim or schema.dim_of(n) for n in every}
        self._rows = {self._table_of[n]: space.rows_of(n) for n in every}
        self.tables = nn.ModuleDict()
        self.counts: dict[str, Tensor] = {}  # table -> (rows,) int64, see ``count``
        self._slots: dict[str, Tensor] = {}  # table -> (rows,) int32, of tables that learn
        for name in every:
            table = self._table_of[name]
            if table not in self.tables:
                embedding = nn.Embedding(self._rows[table], self._dim_of[name], sparse=True)
                if schema.initial == "glorot":
                    nn.init.xavier_uniform_(embedding.weight, gain=schema.initial_scale)
                else:
                    nn.init.normal_(embedding.weight, std=schema.initial_scale * INITIAL_SD)
                self.tables[table] = embedding
        columns = [space.catalogue.features[n] for n in self.names.get("item", [])]
        ids = torch.stack(columns, dim=1) if columns else torch.zeros(0, 0, dtype=torch.int64)
        self.register_buffer("item_ids", ids, persistent=False)

    def table_of(self, name: str) -> str:
        """The key in ``tables`` of a feature's table."""
        return self._table_of[name]

    def dim(self, *sides: Side) -> int:
        """Width of the vectors of these sides."""
        return sum(self._dim_of[n] for side in sides for n in self.names[side])

    def width(self, names: Sequence[str]) -> int:
        """Width of the vectors of these features."""
        return sum(self._dim_of[n] for n in names)

    def groups(self, *sides: Side) -> list[Input]:
        """The features of these sides as inputs of layers."""
        return [Input(n, self._dim_of[n]) for side in sides for n in self.names[side]]

    def look_up(self, name: str, ids: Tensor) -> Tensor:  # (..., D)
        """Vectors of one feature."""
        return self.tables[self._table_of[name]](ids)

    def request(self, requests: Requests) -> Tensor:  # (B, D_user + D_context)
        """User and context features of each request."""
        names = [n for side in ("user", "context") for n in self.names.get(side, [])]
        parts = [self.look_up(n, requests.tensor(n)) for n in names]
        return torch.cat(parts, dim=-1) if parts else torch.zeros(len(requests), 0)

    def tables_of(self, *sides: Side) -> tuple[Array, ...]:
        """The tables of the features of these sides, where they lie, feature by feature.

        Of a model that serves: on CPU, float32. ``request_of`` reads them.
        """
        names = [n for side in sides for n in self.names.get(side, [])]
        return tuple(self._weight(n).detach().contiguous().numpy() for n in names)

    def request_of(self, tables: tuple[Array, ...], requests: Requests) -> Array:  # (B, D)
        """``request`` without gradients, in one compiled call."""
        if not tables:
            return np.zeros((len(requests), 0), np.float32)
        id_FB = np.empty((len(tables), len(requests)), np.int64)
        names = (n for side in ("user", "context") for n in self.names.get(side, []))
        for f, name in enumerate(names):
            id_FB[f] = requests.tensor(name).numpy()
        return side_by_side(tables, id_FB)

    def items(self, item_N: Tensor, names: Sequence[str] | None = None) -> Tensor:  # (..., D_item)
        """Item features (all, or ``names`` in their order) of any items, repeats welcome."""
        every = self.names["item"]
        columns = [
            Column(every.index(n), self._weight(n), self._scratch(self._table_of[n]))
            for n in (every if names is None else names)
        ]
        return look_up(self.item_ids, columns, item_N.flatten()).unflatten(0, item_N.shape)

    def _weight(self, name: str) -> Tensor:
        return self.tables[self._table_of[name]].get_parameter("weight")

    def _scratch(self, table: str) -> Tensor | None:
        """Of a table that learns, kept from step to step; none is made to serve."""
        if torch.is_grad_enabled() and table not in self._slots:
            self._slots[table] = slots(self._rows[table])
        return self._slots.get(table)

    def cross(self, candidates: Candidates) -> Tensor:  # (N, D_cross)
        """Cross features of each candidate."""
        names = self.names.get("cross", [])
        parts = [self.look_up(n, candidates.features[n]) for n in names]
        return torch.cat(parts, dim=-1) if parts else torch.zeros(len(candidates), 0)

    def count(self, requests: Requests, candidates: Candidates, history: Tensor) -> None:
        """Add a batch's occurrences of every id to ``counts``, by table."""
        item_N = torch.cat([candidates.item_id.values, history])
        for side, names in self.names.items():
            for place, name in enumerate(names):
                if side == "item":
                    ids = self.item_ids[item_N, place]
                else:
                    ids = candidates.features[name] if side == "cross" else requests.tensor(name)
                table = self._table_of[name]
                seen = torch.bincount(ids, minlength=self._rows[table])
                self.counts[table] = self.counts[table] + seen if table in self.counts else seen


def sum_features(vector_NF: Tensor, width: int) -> Tensor:  # (N, width)
    """Add up the vectors of several features that lie side by side, all of one width."""
    return vector_NF.reshape(len(vector_NF), vector_NF.shape[1] // width, width).sum(1)
