"""The shapes of data that move through the cascade, in training and in serving alike.

Dimension key, used as name suffixes everywhere in the package:
  B  requests in the batch             T  tasks (click, buy, ...)
  N  candidates, summed over requests  D  embedding width
  E  behaviour events, summed          K  candidates kept
  I  items of the catalogue            L  length of a padded history
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from .ops import ragged


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths, end to end: row ``b`` is ``values[offsets[b]:offsets[b + 1]]``."""

    values: Tensor  # (N, ...)
    offsets: Tensor  # (B + 1,) int64, offsets[0] == 0, non-decreasing, offsets[-1] == N

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> Ragged:
        """Put rows end to end; no rows at all make an empty int64 column."""
        lengths = torch.tensor([0, *(len(row) for row in rows)])
        values = torch.cat(list(rows)) if rows else torch.zeros(0, dtype=torch.int64)
        return cls(values, lengths.cumsum(0))

    @classmethod
    def sized(cls, values: Tensor, lengths: Tensor) -> Ragged:
        """Cut ``values`` into rows of these lengths, ``(B,) int64``."""
        return cls(values, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))

    @classmethod
    def join(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of one after those of another."""
        lengths = torch.cat([part.lengths for part in parts])
        return cls.sized(torch.cat([part.values for part in parts]), lengths)

    def check(self) -> Ragged:
        """Verify the invariants; called where data enters, since trees of non-tensors are legal."""
        starts_at_0, ends_at_n = self.offsets[0] == 0, self.offsets[-1] == self.values.shape[0]
        if self.offsets.dtype != torch.int64 or not (starts_at_0 and ends_at_n):
            raise ValueError(f"offsets do not describe {self.values.shape[0]} values")
        if bool((self.offsets.diff() < 0).any()):
            raise ValueError("offsets decrease")
        return self

    @property
    def lengths(self) -> Tensor:  # (B,) int64
        return self.offsets.diff()

    @property
    def row(self) -> Tensor:  # (N,) int64: the row each value belongs to
        if len(self) == 1:
            return self.offsets.new_zeros(self.values.shape[0])
        return torch.repeat_interleave(self.lengths, output_size=self.values.shape[0])

    def with_values(self, values: Tensor) -> Ragged:
        """Another column over the same rows."""
        return Ragged(values, self.offsets)

    def spread(self, per_row: Tensor) -> Tensor:
        """Repeat a value per row ``(B, ...)`` to a value per element ``(N, ...)``."""
        if len(self) == 1:
            return per_row.expand(self.values.shape[0], *per_row.shape[1:])
        return per_row.index_select(0, self.row)

    def tail(self, most: int) -> Ragged:
        """The last ``most`` values of each row, of shorter rows all."""
        if len(self) == 1:
            size = min(self.values.shape[0], most)
            return Ragged(self.values[self.values.shape[0] - size :], torch.tensor([0, size]))
        left_N = self.offsets[1:][self.row] - torch.arange(self.values.shape[0])
        return Ragged.sized(self.values[left_N <= most], self.lengths.clamp(max=most))

    def take_rows(self, rows: Tensor) -> Ragged:
        """Rows at these indices, in this order, repeats allowed."""
        lengths = self.lengths[rows]
        out = Ragged.sized(self.values[:0], lengths).offsets
        within = torch.arange(int(out[-1])) - out[:-1].repeat_interleave(lengths)
        return Ragged(self.values[self.offsets[rows].repeat_interleave(lengths) + within], out)

    def within(self, rows: Ragged) -> Tensor:  # (N,) bool
        """Whether each value occurs in the same row of ``rows``; values are numbers of items."""
        size = 1 + max((int(x.values.max()) for x in (self, rows) if len(x.values)), default=0)
        return torch.isin(self.row * size + self.values, rows.row * size + rows.values)

    def __len__(self) -> int:
        return self.offsets.shape[0] - 1

    def __getitem__(self, b: int) -> Tensor:
        return self.values[self.offsets[b] : self.offsets[b + 1]]


Columns = Mapping[str, Tensor | Ragged]


def _no_scores() -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True, slots=True)
class Requests:
    """Who asks, when, and what is known of them. Every column has B rows.

    ``features`` holds, under the schema's names, encoded user and context features ``(B,) int64``,
    and for every sequence ``s`` that somebody reads the Ragged columns ``s.item`` and ``s.type``
    (int64), ``s.time_ms`` (int64) and ``s.value`` (float32), oldest event first, all strictly
    before ``time_ms``.
    """

    user: Tensor  # (B,) int64, row of the user table; 0 is an unknown user
    time_ms: Tensor  # (B,) int64, unix epoch
    features: Columns
    group: Tensor  # (B,) int64, exposure group (what was on promotion there and then); -1 none
    exclude: Ragged  # (.,) int64 item ids that must not be retrieved

    def __len__(self) -> int:
        return self.time_ms.shape[0]

    def ragged(self, name: str) -> Ragged:
        """A sequence column by name."""
        column = self.features[name]
        if not isinstance(column, Ragged):
            raise TypeError(f"{name} is not a sequence column")
        return column

    def tensor(self, name: str) -> Tensor:
        """A plain column by name."""
        column = self.features[name]
        if isinstance(column, Ragged):
            raise TypeError(f"{name} is a sequence column")
        return column

    def take(self, rows: Tensor) -> Requests:
        """Requests at these rows, in this order."""
        return Requests(
            self.user[rows],
            self.time_ms[rows],
            {
                k: v.take_rows(rows) if isinstance(v, Ragged) else v[rows]
                for k, v in self.features.items()
            },
            self.group[rows],
            self.exclude.take_rows(rows),
        )


@dataclass(frozen=True, slots=True)
class Hits:
    """The user's past events in each candidate's category, oldest first, before the request.

    Candidates of one request and category share a row of the columns: P rows, E events.
    """

    key: Tensor  # (N,) int64, each candidate's row
    item: Ragged  # (E,) int64
    type: Ragged  # (E,) int64
    age_ms: Ragged  # (E,) int64, how long before the request

    def take(self, kept_K: Tensor) -> Hits:
        """Those of the candidates at these positions."""
        return replace(self, key=self.key[kept_K])


@dataclass(frozen=True, slots=True)
class Candidates:
    """The items under consideration for each request, with what each stage said of them."""

    item_id: Ragged  # (N,) int64, B rows
    features: Mapping[str, Tensor] = field(default_factory=_no_scores)  # name -> (N, ...)
    scores: Mapping[str, Tensor] = field(default_factory=_no_scores)  # stage -> (N, T)
    hits: Hits | None = None  # where a model asked for them

    def __len__(self) -> int:
        return self.item_id.values.shape[0]

    def scored(self, stage: str, score_NT: Tensor) -> Candidates:
        """Add one stage's scores. A score per candidate, always: a scorer cannot drop an item."""
        if score_NT.shape[0] != len(self):
            raise ValueError(f"{stage}: {len(self)} in, {score_NT.shape[0]} out")
        return replace(self, scores={**self.scores, stage: score_NT})

    def take(self, kept_K: Tensor) -> Candidates:
        """Keep the candidates at these positions, in this order; rows stay with their request."""
        return Candidates(
            self._rows_of(kept_K),
            {k: v[kept_K] for k, v in self.features.items()},
            {k: v[kept_K] for k, v in self.scores.items()},
            self.hits and self.hits.take(kept_K),
        )

    def first(self, quota_B: Tensor) -> Candidates:
        """The first ``quota_B`` of each request."""
        if bool((self.item_id.lengths <= quota_B).all()):
            return self
        return self.take(ragged.head(self.item_id.offsets, quota_B))

    def _rows_of(self, kept_K: Tensor) -> Ragged:
        item_K = self.item_id.values[kept_K]
        if len(self.item_id) == 1:
            return Ragged(item_K, torch.tensor([0, len(item_K)]))
        row_K = self.item_id.row[kept_K]
        if bool((row_K.diff() < 0).any()):
            raise ValueError("take: positions must stay grouped by request")
        return Ragged.sized(item_K, torch.bincount(row_K, minlength=len(self.item_id)))

    def take_rows(self, rows: Tensor) -> Candidates:
        """The candidates of these requests, in this order."""
        positions = self.item_id.with_values(torch.arange(len(self))).take_rows(rows)
        return Candidates(
            Ragged(self.item_id.values[positions.values], positions.offsets),
            {k: v[positions.values] for k, v in self.features.items()},
            {k: v[positions.values] for k, v in self.scores.items()},
            self.hits and self.hits.take(positions.values),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training step sees: the serving structs plus what happened next."""

    requests: Requests
    candidates: Candidates
    labels: Mapping[str, Tensor]  # task -> (N,) float32
    weight: Tensor  # (N,) float32, share of each candidate in the loss
    pool: Tensor  # (M,) int64, negative items shared by all requests of the batch; may be empty
    log_rate: Tensor | None = None  # (N,) float32, see ``sampled``

    def sampled(self, logit_NT: Tensor) -> Tensor:
        """Logits as they are among the candidates drawn, from logits as they are among all.

        Positives are all there, negatives only at some rate, and not all at the same: odds among
        the drawn are higher by one over it. A loss on these logits teaches a model true odds.
        """
        return logit_NT if self.log_rate is None else logit_NT - self.log_rate.unsqueeze(-1)


for _struct in (Ragged, Requests, Hits, Candidates, Batch):
    torch.export.register_dataclass(_struct)

S = TypeVar("S")


def map_tensors(fn: Callable[[Tensor], Tensor], struct: S) -> S:
    """Apply ``fn`` to every tensor inside; ``.to``, ``.pin_memory`` and slicing need no more."""
    return tree_map_only(Tensor, fn, struct)
