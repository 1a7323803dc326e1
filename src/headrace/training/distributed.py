"""Data-parallel training: the same model in every process, each with its share of every batch.

Under ``torchrun --nproc-per-node 2 ...`` the losses are those of one process on whole batches. That
rests on a loss being linear in ``batch.weight`` and a mean over candidates: ``shard`` scales the
weights so that the mean of the processes' losses, and so of their gradients, is that of the whole
batch. Softmaxes over the batch join in through ``nn.losses.gather_rows``. Batch statistics
(BatchNorm, Dice) remain those of each process's own share.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data import Batch, Ragged
from ..errors import HeadraceError
from ..ops.embedding_rows import row_gradient

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
        None if batch.log_rate is None else batch.log_rate[position_N],
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
        """Average gradients in place; those of tables are sparse with distinct rows.

        A parameter that has a gradient in no process keeps none.
        """
        if self.size == 1:
            return
        has_grad = torch.tensor([float(p.grad is not None) for p in (*dense, *tables)])
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in dense]
        flat = self.mean(torch.cat([has_grad, *(grad.flatten() for grad in grads)]))
        in_use = (flat[: len(has_grad)] > 0).tolist()
        parts = flat[len(has_grad) :].split([p.numel() for p in dense])
        for param, part, used in zip(dense, parts, in_use[: len(dense)], strict=True):
            param.grad = part.view_as(param) if used else None
        for param, used in zip(tables, in_use[len(dense) :], strict=True):
            if used:
                param.grad = self._average_rows(param)

    def _average_rows(self, param: nn.Parameter) -> Tensor:
        if param.grad is None:
            row_K, grad_KD = torch.zeros(0, dtype=torch.int64), param.new_zeros(0, param.shape[1])
        else:
            row_K, grad_KD = param.grad.indices()[0], param.grad.values()
        # gloo adds sparse tensors by merging sorted rows, and sorts those not said to be distinct
        grad = row_gradient(param, row_K, grad_KD, distinct=False)
        dist.all_reduce(grad)
        return grad / self.size


ALONE = Group(0, 1)


@contextmanager
def join() -> Generator[Group]:
    """The group that torchrun started this process in; ``ALONE`` when it was not torchrun."""
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    # Its functions keep the group there is at import as their default: imported later, as by an
    # optimizer, they would keep gloo's threads into the interpreter's end, which may then abort.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
