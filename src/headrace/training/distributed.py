"""Data-parallel training: the same model in every process, each with its share of every batch.

Under ``torchrun --nproc-per-node 2 ...`` the losses are those of one process on whole batches. That
rests on a loss being linear in ``batch.weight`` and a mean over candidates: ``shard`` scales the
weights so that the mean of the processes' losses, and so of their gradients, is that of the whole
batch. Softmaxes over the batch join in through ``nn.losses.gather_rows``. Batch statistics
(BatchNorm, Dice) remain those of each process's own share.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data import Batch, Ragged
from ..errors import HeadraceError
from .optim import row_gradient

T = TypeVar("T")
Parameters = Sequence[nn.Parameter]


def shard(batch: Batch, rank: int, world: int) -> Batch:
    """The share of process ``rank`` of ``world``: neighbouring requests, with all they carry.

    The mean over ranks of ``Σ w·l / N`` on the shares is ``Σ w·l / N`` on the batch, for any
    per-candidate loss l. Where requests are fewer than processes, a rank left without any gets one
    that has no candidates.
    """
    row_B = torch.arange(len(batch.requests)).tensor_split(world)[rank]
    requests = batch.requests.take(row_B if len(row_B) else torch.zeros(1, dtype=torch.int64))
    items = batch.candidates.item_id
    position_N = items.with_values(torch.arange(len(items.values))).take_rows(row_B).values
    candidates = batch.candidates.take_rows(row_B)
    if len(row_B) == 0:
        none = Ragged(items.values[:0], torch.zeros(2, dtype=torch.int64))
        candidates = replace(candidates, item_id=none)
    share = len(position_N) * world / max(len(items.values), 1)
    return Batch(
        requests,
        candidates,
        {task: label_N[position_N] for task, label_N in batch.labels.items()},
        batch.weight[position_N] * share,
        batch.pool,
    )


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train one model together; ``ALONE`` is the usual one."""

    rank: int
    size: int

    def share(self, batch: Batch) -> Batch:
        """The part of a batch that falls to this process."""
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
        """Average gradients in place.

        Tables come with distinct rows and leave with every process's rows end to end, for the
        optimiser to sum. Four messages, however many parameters there are. A parameter that has a
        gradient in no process keeps none.
        """
        if self.size == 1:
            return
        used = self._average_dense(dense, tables)
        self._join_rows([p for p, in_use in zip(tables, used, strict=True) if in_use])

    def _average_dense(self, dense: Parameters, tables: Parameters) -> list[bool]:
        flags = torch.tensor([float(p.grad is not None) for p in (*dense, *tables)])
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in dense]
        flat = self.mean(torch.cat([flags, *(grad.flatten() for grad in grads)]))
        used = (flat[: len(flags)] > 0).tolist()
        parts = flat[len(flags) :].split([p.numel() for p in dense])
        for param, part, in_use in zip(dense, parts, used[: len(dense)], strict=True):
            param.grad = part.view_as(param) if in_use else None
        return used[len(dense) :]

    def _join_rows(self, tables: Parameters) -> None:
        if not tables:
            return
        grads = [_rows_of(p) for p in tables]
        widths = [p.shape[1] for p in tables]
        mine_T = torch.tensor([len(row_K) for row_K, _ in grads])
        counts_WT = [c.tolist() for c in self._gather(mine_T, [len(tables)] * self.size)]
        sizes_WT = [
            [c * d for c, d in zip(counts_T, widths, strict=True)] for counts_T in counts_WT
        ]
        row_W = self._gather(torch.cat([row_K for row_K, _ in grads]), [sum(c) for c in counts_WT])
        grad_W = self._gather(
            torch.cat([grad_KD.flatten() for _, grad_KD in grads]), [sum(s) for s in sizes_WT]
        )
        row_WT = [row.split(counts) for row, counts in zip(row_W, counts_WT, strict=True)]
        grad_WT = [grad.split(sizes) for grad, sizes in zip(grad_W, sizes_WT, strict=True)]
        for t, param in enumerate(tables):
            row_N = torch.cat([row_T[t] for row_T in row_WT])
            grad_ND = torch.cat([grad_T[t] for grad_T in grad_WT]).view(-1, widths[t]) / self.size
            param.grad = row_gradient(param, row_N, grad_ND, distinct=False)

    def _gather(self, value: Tensor, length_W: list[int]) -> list[Tensor]:
        """Every process's 1-d tensor, in rank order; their lengths are known to all."""
        padded = torch.cat([value, value.new_zeros(max(length_W) - len(value))])
        out = [torch.empty_like(padded) for _ in length_W]
        dist.all_gather(out, padded)
        return [full[:length] for full, length in zip(out, length_W, strict=True)]


def _rows_of(param: nn.Parameter) -> tuple[Tensor, Tensor]:
    if param.grad is None:
        return torch.zeros(0, dtype=torch.int64), param.new_zeros(0, param.shape[1])
    return param.grad.indices()[0], param.grad.values()


ALONE = Group(0, 1)


@contextmanager
def join() -> Generator[Group]:
    """The group that torchrun started this process in; ``ALONE`` when it was not torchrun."""
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    dist.init_process_group("gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
