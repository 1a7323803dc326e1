"""Data-parallel training: the same model in every process, each with its share of every batch.

Run under ``torchrun --nproc-per-node 2 ...``; the losses are those of one process on whole batches.
That holds because a model's loss is linear in ``batch.weight`` and a mean over candidates: ``shard``
scales the weights so that the mean of the processes' losses is the loss of the whole batch, and the
same is then true of the gradients. In-batch negatives join it through ``nn.losses.gather_rows``.
Batch statistics (BatchNorm, Dice) are those of a process's own share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data import Batch
from ..errors import HeadraceError
from .optim import row_gradient

T = TypeVar("T")
Parameters = Sequence[nn.Parameter]


def shard(batch: Batch, rank: int, world: int) -> Batch:
    """The share of process ``rank`` of ``world``: neighbouring requests, with all they carry.

    The mean over ranks of ``Σ w·l / N`` on the shares is ``Σ w·l / N`` on the batch, for any
    per-candidate loss l. Where requests are fewer than processes, a rank left without any gets a
    request of weight 0, so that no model sees an empty batch.
    """
    row_B = torch.arange(len(batch.requests)).tensor_split(world)[rank]
    idle = len(row_B) == 0
    row_B = row_B if not idle else torch.zeros(1, dtype=torch.int64)
    items = batch.candidates.item_id
    position_N = items.with_values(torch.arange(len(items.values))).take_rows(row_B).values
    share = 0.0 if idle else len(position_N) * world / max(len(items.values), 1)
    return Batch(
        batch.requests.take(row_B),
        batch.candidates.take_rows(row_B),
        {task: label_N[position_N] for task, label_N in batch.labels.items()},
        batch.weight[position_N] * share,
    )


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train one model together; ``ALONE`` is the usual one."""

    rank: int
    size: int

    def share(self, batch: Batch) -> Batch:
        """This process's part of a batch."""
        return batch if self.size == 1 else shard(batch, self.rank, self.size)

    def mean(self, value: Tensor) -> Tensor:
        """Average a dense tensor over the processes."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def from_first(self, make: Callable[[], T]) -> T:
        """Let the first process alone do something, and share its result or its error."""
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        if self.rank == 0:
            try:
                box[0] = make()
            except HeadraceError as error:
                box[1] = error
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        return box[0]

    def copy_first(self, model: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.size > 1:
            for value in model.state_dict().values():
                dist.broadcast(value, src=0)

    def average(self, dense: Parameters, tables: Parameters) -> None:
        """Average gradients in place; tables hold one sparse row per touched row before and after
        each process's rows are put end to end, for the optimiser to sum.

        Five messages however many parameters there are. A parameter without a gradient in every
        process keeps none.
        """
        if self.size == 1:
            return
        used = self._average_dense(dense, tables)
        self._join_rows([p for p, any_use in zip(tables, used, strict=True) if any_use])

    def _average_dense(self, dense: Parameters, tables: Parameters) -> list[bool]:
        flags = torch.tensor([float(p.grad is not None) for p in (*dense, *tables)])
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in dense]
        flat = self.mean(torch.cat([flags, *(grad.flatten() for grad in grads)]))
        used = (flat[: len(flags)] > 0).tolist()
        parts = flat[len(flags) :].split([p.numel() for p in dense])
        for param, part, any_use in zip(dense, parts, used, strict=False):
            param.grad = part.view_as(param) if any_use else None
        return used[len(dense) :]

    def _join_rows(self, tables: Parameters) -> None:
        if not tables:
            return
        grads = [_rows_of(p) for p in tables]
        counts = torch.tensor([len(row_K) for row_K, _ in grads])
        counts_WT = self._gather(counts, len(counts)).tolist()
        longest = max(sum(counts_T) for counts_T in counts_WT)
        rows_W = self._gather(torch.cat([row_K for row_K, _ in grads]), longest)
        widths = [p.shape[1] for p in tables]
        sizes_W = [
            [c * w for c, w in zip(counts_T, widths, strict=True)] for counts_T in counts_WT
        ]
        values = torch.cat([grad_KD.flatten() for _, grad_KD in grads])
        values_W = self._gather(values, max(sum(sizes) for sizes in sizes_W)) / self.size
        row_WT = [r[: sum(c)].split(c) for r, c in zip(rows_W, counts_WT, strict=True)]
        value_WT = [v[: sum(s)].split(s) for v, s in zip(values_W, sizes_W, strict=True)]
        for t, param in enumerate(tables):
            row_N = torch.cat([row_T[t] for row_T in row_WT])
            value_ND = torch.cat([value_T[t] for value_T in value_WT]).view(-1, widths[t])
            param.grad = row_gradient(param, row_N, value_ND, distinct=False)

    def _gather(self, value: Tensor, length: int) -> Tensor:
        """Every process's 1-d tensor, padded to ``length``, as rows in rank order."""
        mine = torch.cat([value, value.new_zeros(length - len(value))])
        out = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(out, mine)
        return torch.stack(out)


def _rows_of(param: nn.Parameter) -> tuple[Tensor, Tensor]:
    if param.grad is None:
        return torch.zeros(0, dtype=torch.int64), param.new_zeros(0, param.shape[1])
    return param.grad.indices()[0], param.grad.values()


ALONE = Group(0, 1)


@contextmanager
def join() -> Iterator[Group]:
    """The group that torchrun started this process in; ``ALONE`` when it was not torchrun."""
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    dist.init_process_group("gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
