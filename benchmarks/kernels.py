"""Kernels against what they stand in for: slates, and updates of embedding tables; one thread.

    python -m benchmarks.kernels [--repeats 200]

Slates: ``mmr`` and ``dpp`` choose K of M candidates, vectors of width 64, whole slate as window.
Tables: the gradient of 20,000 look-ups (rows drawn evenly, width 16) is summed over equal rows and
applied by row-wise Adagrad, on a table of 10,000 and one of 1,000,000 rows; beside it PyTorch's
``coalesce``, the same update by index operations, and fused AdamW over the whole table. Medians.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from benchmarks import _common
from headrace.ops import embedding_rows, slate

SLATES = ((200, 10), (1_000, 50))  # M, K
ROWS = (10_000, 1_000_000)
LOOKUPS, WIDTH, VECTOR = 20_000, 16, 64


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call."""
    return round(median(_common.times_ms(work, repeats)), 3)


def slates(repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a slate by policy and size."""
    out: dict[str, dict[str, float]] = {"mmr_ms": {}, "dpp_ms": {}}
    rng = np.random.default_rng(0)
    for num, kept in SLATES:
        worth = np.sort(rng.random(num))[::-1].copy()
        vector = rng.standard_normal((num, VECTOR)).astype(np.float32)
        vector /= np.linalg.norm(vector, axis=1, keepdims=True)
        columns = (vector, np.zeros(num, np.int64), np.array([0, num]), np.array([kept]))
        size = f"{kept} of {num}"
        out["mmr_ms"][size] = median_ms(
            lambda w=worth, c=columns, k=kept: slate.mmr(w, *c, 0.7, k, k), repeats
        )
        out["dpp_ms"][size] = median_ms(
            lambda w=worth, c=columns, k=kept: slate.dpp(w, *c, k, k), repeats
        )
    return out


def table(num_rows: int, repeats: int) -> dict[str, float]:
    """Milliseconds of an update of a table of so many rows, by part and by rival."""
    torch.manual_seed(0)
    weight, total = torch.randn(num_rows, WIDTH), torch.zeros(num_rows)
    row, grad = torch.randint(num_rows, (LOOKUPS,)), torch.randn(LOOKUPS, WIDTH)
    slot = embedding_rows.slots(num_rows)
    distinct, summed = embedding_rows.sum_rows(row, grad, slot)
    sparse = torch.sparse_coo_tensor(
        row.unsqueeze(0), grad, (num_rows, WIDTH), check_invariants=False
    )
    dense = torch.nn.Parameter(torch.randn(num_rows, WIDTH))
    dense.grad = torch.randn(num_rows, WIDTH)
    adamw = torch.optim.AdamW([dense], fused=True)
    update = (weight, total, distinct, summed, 0.01, 1e-8)
    return {
        "sum_ms": median_ms(lambda: embedding_rows.sum_rows(row, grad, slot), repeats),
        "coalesce_ms": median_ms(sparse.coalesce, repeats),
        "adagrad_ms": median_ms(lambda: embedding_rows.rowwise_adagrad(*update), repeats),
        "adagrad_by_index_ms": median_ms(
            lambda: embedding_rows.rowwise_adagrad_reference(*update), repeats
        ),
        "dense_adamw_ms": median_ms(adamw.step, repeats),
    }


def main() -> None:
    """Time all of them."""
    options = _common.parser(__doc__)
    options.add_argument("--repeats", type=int, default=200)
    given = options.parse_args()
    torch.set_num_threads(1)
    figures = {
        **slates(given.repeats),
        "tables": {str(rows): table(rows, given.repeats) for rows in ROWS},
    }
    _common.finish("kernels", figures, save=given.save)


if __name__ == "__main__":
    main()
