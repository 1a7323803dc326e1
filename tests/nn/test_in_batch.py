import math

import pytest
import torch

from headrace.data import Batch, Candidates, Ragged, Requests
from headrace.nn.in_batch import Columns, request_softmax
from headrace.training.distributed import shard


def batch(positives, pool):
    """A batch of which only positives and pool matter."""
    items = Ragged.of([torch.tensor(row, dtype=torch.int64) for row in positives])
    size = len(positives)
    nothing = Ragged.of([torch.zeros(0, dtype=torch.int64)] * size)
    requests = Requests(
        torch.ones(size).long(), torch.ones(size).long(), {}, torch.ones(size).long(), nothing
    )
    ones = torch.ones(len(items.values))
    return Batch(requests, Candidates(items), {}, ones, torch.tensor(pool, dtype=torch.int64))


def draw(seed, num_items=9, size=4):
    torch.manual_seed(seed)
    counts = torch.randint(0, 4, (size,)).tolist()
    rows = [torch.randperm(num_items)[:n].tolist() for n in counts]
    return batch(rows, torch.randint(0, num_items, (6,)).tolist())


def loss(b, score_BI, log_q_I, weight_N):
    columns = Columns.of(b)
    row_N = b.candidates.item_id.row
    return request_softmax(
        score_BI[:, columns.item], log_q_I[columns.item], columns, row_N, weight_N
    )


def reference(b, score_BI, log_q_I, weight_N):
    """Every drawn negative on its own, one loop a positive."""
    items = b.candidates.item_id
    total = 0.0
    for n, (row, item) in enumerate(zip(items.row.tolist(), items.values.tolist(), strict=True)):
        logit_I = score_BI[row] - log_q_I
        own = set(items[row].tolist())
        drawn = [j for j in [*items.values.tolist(), *b.pool.tolist()] if j not in own]
        norm = logit_I[item].exp() + sum(logit_I[j].exp() for j in drawn)
        total += weight_N[n] * (norm.log() - logit_I[item])
    return total / max(len(items.values), 1)


def test_equals_one_loop_a_positive():
    for seed in range(20):
        b = draw(seed)
        score_BI = torch.randn(4, 9, dtype=torch.float64)
        log_q_I = torch.randn(9, dtype=torch.float64)
        weight_N = torch.rand(len(b.candidates), dtype=torch.float64)
        want = reference(b, score_BI, log_q_I, weight_N)
        torch.testing.assert_close(
            loss(b, score_BI, log_q_I, weight_N), torch.as_tensor(want, dtype=torch.float64)
        )


def test_a_request_that_took_every_column_costs_nothing():
    b = batch([[1, 2]], [1, 2, 1])
    score_BI = torch.randn(1, 3, requires_grad=True)
    value = loss(b, score_BI, torch.zeros(3), torch.ones(2))
    value.backward()
    assert value.item() == 0
    assert torch.equal(score_BI.grad, torch.zeros(1, 3))


def test_an_accidental_hit_is_no_negative():
    """Item 1 is in the pool, and another request took it too."""
    b = batch([[1], [1, 2]], [1, 1, 3])
    score_BI = torch.zeros(2, 4)
    score_BI[0, 1] = -5.0  # were the other 1s its negatives, the loss could not tell
    value = loss(b, score_BI, torch.zeros(4), torch.tensor([1.0, 0.0, 0.0]))
    negatives = 2.0  # items 2 and 3, at score 0
    assert math.isclose(value.item(), math.log(1 + negatives * math.exp(5.0)) / 3, rel_tol=1e-5)


def test_an_empty_batch_costs_nothing():
    b = batch([[], []], [1, 2])
    assert loss(b, torch.zeros(2, 3), torch.zeros(3), torch.zeros(0)).item() == 0


def test_one_proposal_for_both_sources():
    """3 positives of one item in 4 events, and 2 uniform negatives of 4 items: q by one mixture."""
    b = batch([[1], [1], [2]], [1, 3])
    columns = Columns.of(b)
    frequency_I = torch.tensor([0, 3, 1, 0])
    assert columns.item.tolist() == [1, 2, 1, 3]
    assert columns.count.tolist() == [2, 1, 1, 1]
    q = {1: (3 * 3 / 4 + 2 / 4) / 5, 2: (3 * 1 / 4 + 2 / 4) / 5, 3: (3 * 1 / 4 + 2 / 4) / 5}
    want = torch.tensor([math.log(q[i]) for i in columns.item.tolist()])
    torch.testing.assert_close(columns.log_q(frequency_I), want)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_agree_with_one_on_the_whole_batch(world, monkeypatch):
    """Each has its share of the requests and, by gather, everybody's positives."""
    for seed in range(10):
        b = draw(seed)
        score_BI = torch.randn(4, 9, dtype=torch.float64)
        frequency_I = torch.arange(1, 10) ** 2
        key_ID = torch.eye(9, dtype=torch.float64)  # a column's score is the query's own number
        parts = [shard(b, rank, world) for rank in range(world)]
        columns = [Columns.of(part) for part in parts]
        own = [slice(c.num_positive) for c in columns]
        everybody = [
            torch.cat([key_ID[c.item[o]] for c, o in zip(columns, own, strict=True)]),
            torch.cat([c.item[o] for c, o in zip(columns, own, strict=True)]),
            torch.cat([c.count[o] for c, o in zip(columns, own, strict=True)]),
        ]
        losses, rows = [], torch.arange(4).tensor_split(world)
        for rank, part in enumerate(parts):
            first = sum(c.num_positive for c in columns[:rank])
            answers = iter([(value, first) for value in everybody])
            monkeypatch.setattr("headrace.nn.in_batch.gather_rows", lambda _, a=answers: next(a))
            seen, key_MD = columns[rank].gather(key_ID[columns[rank].item])
            score_BM = score_BI[rows[rank]] @ key_MD.T
            row_N = part.candidates.item_id.row
            losses.append(
                request_softmax(
                    score_BM, seen.log_q(frequency_I), seen, row_N, part.weight.double()
                )
            )
        monkeypatch.undo()
        whole = Columns.of(b)
        want = request_softmax(
            score_BI[:, whole.item],
            whole.log_q(frequency_I),
            whole,
            b.candidates.item_id.row,
            b.weight.double(),
        )
        torch.testing.assert_close(torch.stack(losses).mean(), want)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_the_correction_decides_how_much_popularity_is_learnt(weight):
    """Requests that differ in nothing: scores grow as log p(i) - (1 - weight) log q(i), q = p."""
    torch.manual_seed(0)
    share_I = 1 / torch.arange(1.0, 200)
    share_I /= share_I.sum()
    frequency_I = torch.cat([torch.zeros(1), share_I * 1e6]).long()
    score_I = torch.zeros(200, requires_grad=True)
    optimizer = torch.optim.Adam([score_I], 0.05)
    for _ in range(250):
        drawn = 1 + torch.multinomial(share_I, 64, replacement=True)
        columns = Columns.of(batch([[i] for i in drawn.tolist()], []))
        log_q_M = weight * columns.log_q(frequency_I)
        score_BM = score_I[columns.item].expand(64, -1)
        optimizer.zero_grad()
        request_softmax(score_BM, log_q_M, columns, torch.arange(64), torch.ones(64)).backward()
        optimizer.step()
    x, y = share_I.log(), score_I[1:].detach()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert abs(slope - weight) < 0.1
