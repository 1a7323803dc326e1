"""The smallest models and batches on which everything the loop does can be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from headrace.data import Batch, Candidates, Ragged, Requests
from headrace.nn.losses import gather_rows, mixed_log_q, sampled_softmax, task_losses

USERS, ITEMS = 40, 60


def tiny_batch(seed: int, requests: int = 8, longest: int = 4) -> Batch:
    """Requests with 0 to ``longest`` candidates; of the items a third are clicked, by all."""
    g = torch.Generator().manual_seed(seed)
    user_B = torch.randint(1, USERS, (requests,), generator=g)
    counts_B = torch.randint(0, longest + 1, (requests,), generator=g)
    counts_B[0] = longest
    item = Ragged.sized(torch.randint(1, ITEMS, (int(counts_B.sum()),), generator=g), counts_B)
    click_N = (item.values % 3 == 0).float()
    return Batch(
        Requests(
            user_B,
            torch.arange(requests),
            {},
            torch.zeros(requests, dtype=torch.int64),
            Ragged.of([torch.zeros(0, dtype=torch.int64)] * requests),
        ),
        Candidates(item),
        {"click": click_N, "buy": click_N * (item.values % 2)},
        0.5 + torch.rand(len(click_N), generator=g),
        torch.randint(1, ITEMS, (5,), generator=g),
    )


class TinyBatches:
    """``steps`` batches an epoch; ``on_step`` hears of (epoch, step) before each is built."""

    def __init__(self, steps: int = 6, on_step: Callable[[int, int], None] | None = None) -> None:
        self.steps, self.on_step = steps, on_step

    def __len__(self) -> int:
        return self.steps

    def epoch(self, e: int, start: int = 0) -> Iterator[Batch]:
        for step in range(start, self.steps):
            if self.on_step is not None:
                self.on_step(e, step)
            # the last batch of an epoch has a single request: fewer than two processes
            yield tiny_batch(1000 * e + step, requests=8 if step < self.steps - 1 else 1)


class TinyRanker(nn.Module):
    """Two sparse tables, a batch norm when asked, dropout when asked, two tasks."""

    def __init__(self, *, dropout: float = 0.0, norm: bool = False, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.user = nn.Embedding(USERS, 4, sparse=True)
        self.item = nn.Embedding(ITEMS, 6, sparse=True)
        self.unused = nn.Linear(3, 3)
        self.mlp = nn.Sequential(
            nn.Linear(10, 8),
            nn.BatchNorm1d(8) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(8, 2),
        )

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:
        user_ND = candidates.item_id.spread(self.user(requests.user))
        return self.mlp(torch.cat([user_ND, self.item(candidates.item_id.values)], 1))

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        logit_NT = self(batch.requests, batch.candidates)
        return task_losses(logit_NT, batch, {"click": 1.0, "buy": 0.5})


class TinyTowers(nn.Module):
    """In-batch negatives and a shared pool, over all processes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.user = nn.Embedding(USERS, 4, sparse=True)
        self.item = nn.Embedding(ITEMS, 4, sparse=True)
        self.top = nn.Linear(4, 4)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        positive = batch.candidates.item_id
        user_ND = positive.spread(self.top(self.user(batch.requests.user)))
        item_ND, first = gather_rows(self.item(positive.values))
        id_N, _ = gather_rows(positive.values)
        id_M = torch.cat([id_N, batch.pool])
        loss = sampled_softmax(
            user_ND,
            torch.cat([item_ND, self.item(batch.pool)]),
            first + torch.arange(len(user_ND)),
            id_M,
            mixed_log_q(id_M % 7, 100, ITEMS, len(id_N), len(batch.pool)),
            0.2,
            positive.values,
            batch.weight,
        )
        return {"softmax": loss}


def click_accuracy(model: nn.Module) -> float:
    """A validation metric: higher is better, on batches that training never sees."""
    batch = tiny_batch(999_999, requests=64)
    logit_NT = model(batch.requests, batch.candidates)
    return float(((logit_NT[:, 0] > 0).float() == batch.labels["click"]).float().mean())
