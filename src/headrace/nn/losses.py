"""Losses that two or more models share.

  B  positives (user, item) in the batch   M  items they are scored against
  N  candidates                            T  tasks          D  vector width

Every loss is linear in its weights and divided by the number of rows, not by the sum of weights:
a batch dealt out to several processes then has the loss of the whole (``training.distributed``).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from ..data import Batch
from ..errors import DataError, suggest


def task_losses(logit_NT: Tensor, batch: Batch, share: Mapping[str, float]) -> dict[str, Tensor]:
    """Weighted binary cross-entropy of each task, ``Σ_n w_n · BCE(logit_nt, y_nt) / N``.

    ``share`` names the tasks in the order of the columns and their weight in the sum. Raises
    DataError if the batch lacks a task's labels.
    """
    losses: dict[str, Tensor] = {}
    for logit_N, (task, factor) in zip(logit_NT.unbind(1), share.items(), strict=True):
        if task not in batch.labels:
            raise DataError(f"no labels for task {task!r}; {suggest(task, batch.labels)}")
        losses[task] = factor * weighted_bce(logit_N, batch.labels[task], batch.weight)
    return losses


def weighted_bce(logit_N: Tensor, label_N: Tensor, weight_N: Tensor) -> Tensor:
    """Binary cross-entropy from logits, a weighted mean over candidates; 0 for none at all."""
    total = F.binary_cross_entropy_with_logits(logit_N, label_N, weight_N, reduction="sum")
    return total / max(len(logit_N), 1)


def level(logit_N: Tensor, mean: float) -> float:
    """What to add to logits for their probabilities to have a mean, to .001 and within ±30."""
    low, high = -30.0, 30.0
    while high - low > 1e-3:  # the mean rises with what is added
        middle = (low + high) / 2
        below = bool((logit_N + middle).sigmoid().mean() < mean)
        low, high = (middle, high) if below else (low, middle)
    return low


def mixed_log_q(count_M: Tensor, total: int, num_items: int, in_batch: int, uniform: int) -> Tensor:
    """Log proposal probability of items in a pool of in-batch and uniform negatives, ``(M,)``.

    One mixture for both sources, whichever an item came from:
    ``q(j) = (B · f_j + B' / I) / (B + B')`` with ``f_j = count_j / total`` the item's share of the
    training positives, ``B = in_batch``, ``B' = uniform`` and ``I = num_items`` (after Yang et al.
    2020, "Mixed negative sampling for learning two-tower neural networks in recommendations"). An
    item never seen in training counts as seen once, lest its correction be infinite.
    """
    frequency_M = count_M.clamp(min=1) / max(total, 1)
    return ((in_batch * frequency_M + uniform / num_items) / (in_batch + uniform)).log().float()


def sampled_softmax(
    user_BD: Tensor,
    item_MD: Tensor,
    positive_B: Tensor,
    item_id_M: Tensor,
    log_q_M: Tensor,
    temperature: float,
    positive_id_B: Tensor,
    weight_B: Tensor | None = None,
) -> Tensor:
    """Softmax over sampled items, corrected for how often each is sampled; a scalar.

    ``-1/B Σ_b r_b · log softmax_j(⟨u_b, v_j⟩ / τ - log q_j)`` at ``j = positive_b``, the row of
    ``item_MD`` that holds the positive (Yi et al. 2019, "Sampling-bias-corrected neural modeling
    for large corpus item recommendations", §3; rewards ``r_b`` are ``weight_B``). The positive is
    corrected as well, as there. Other rows with the positive's own item, accidental hits, are left
    out: an item cannot score below itself.
    """
    logit_BM = torch.addmm(-log_q_M, user_BD, item_MD.T, alpha=1 / temperature)
    hit_BM = item_id_M == positive_id_B.unsqueeze(1)
    hit_BM = hit_BM.scatter(1, positive_B.unsqueeze(1), False)
    loss_B = F.cross_entropy(logit_BM.masked_fill(hit_BM, -torch.inf), positive_B, reduction="none")
    total = loss_B.sum() if weight_B is None else loss_B @ weight_B
    return total / max(len(loss_B), 1)


def gather_rows(value_BD: Tensor) -> tuple[Tensor, int]:
    """The rows of every process in rank order, and the place of this process's first one.

    Lets the positives of one process be negatives of all. Gradients flow back to the process that
    the rows came from. Where there is one process the rows are as they were.
    """
    if not dist.is_initialized():
        return value_BD, 0
    sizes_W = torch.zeros(dist.get_world_size(), dtype=torch.int64)
    sizes_W[dist.get_rank()] = len(value_BD)
    dist.all_reduce(sizes_W)
    first = int(sizes_W[: dist.get_rank()].sum())
    after = int(sizes_W.sum()) - first - len(value_BD)
    wings = [value_BD.new_zeros(size, *value_BD.shape[1:]) for size in (first, after)]
    return sum_processes(torch.cat([wings[0], value_BD, wings[1]])), first


def sum_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, with its gradient."""
    return _SumProcesses.apply(value) if dist.is_initialized() else value


class _SumProcesses(torch.autograd.Function):
    """All-reduce, which is its own adjoint. PyTorch's differentiable one is deprecated."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> Tensor:
        total = grad_outputs[0].clone()
        dist.all_reduce(total)
        return total
