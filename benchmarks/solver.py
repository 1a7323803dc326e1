"""The solver against linear programming, and its time on large pools.

    python -m benchmarks.solver [--million 1 10]

Pools are those of methods/dcaf.md: log-normal worth, diminishing returns, ten actions, a budget of
half of what all would cost. ``relative_gap`` is that of the relaxed optimum to HiGHS's at
1,000 x 10, ``fill_gap`` that of the whole choice; ``seconds`` are at a million requests of ten
actions, and ``seconds_MILLIONS`` at other sizes, by both methods; ``pass_ms`` is the time for the
16 requests of one pass of a server.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, identity, kron, vstack

from benchmarks import _common
from headrace.allocation import solver

Array = NDArray[Any]
COST_J = 20.0 * np.arange(1, 11)
PASS, TIMES = 16, 500  # requests of a pass; how often it is solved
METHODS: tuple[solver.Method, ...] = ("exact", "bisection")


def pool(size: int, seed: int = 0) -> Array:  # (N, J)
    """Gains that grow ever more slowly with the cost."""
    rng = np.random.default_rng(seed)
    worth_N = rng.lognormal(0, 1, size)
    pace_N = rng.lognormal(np.log(0.015), 0.7, size)
    return worth_N[:, None] * (1 - np.exp(-pace_N[:, None] * COST_J))


def relaxed(gain_NJ: Array, budget: float) -> float:
    """The linear program's optimum, by HiGHS."""
    size, actions = gain_NJ.shape
    spent = csr_matrix(np.tile(COST_J, size)[None])
    upper = vstack([spent, kron(identity(size), np.ones((1, actions)))])
    limit = np.concatenate([[budget], np.ones(size)])
    return -float(linprog(-gain_NJ.ravel(), A_ub=upper, b_ub=limit, method="highs").fun)


def seconds(size: int, method: solver.Method) -> float:
    """How long a pool of so many requests takes."""
    gain_NJ = pool(size)
    begun = time.perf_counter()
    solver.solve(gain_NJ, COST_J, 100.0 * size, method=method)
    return time.perf_counter() - begun


def main() -> None:
    """Compare, then time."""
    options = _common.parser(__doc__)
    options.add_argument("--million", type=int, nargs="*", default=[1], help="more sizes to time")
    given = options.parse_args()
    gaps: list[float] = []
    fills: list[float] = []
    for method in METHODS:
        for seed in range(3):
            gain_NJ = pool(1000, seed)
            budget = 100.0 * len(gain_NJ)
            solved = solver.solve(gain_NJ, COST_J, budget, method=method)
            best = relaxed(gain_NJ, budget)
            gaps.append(abs(solved.bound - best) / best)
            fills.append((best - solved.gain) / best)
    figures: dict[str, Any] = {"relative_gap": max(gaps), "fill_gap": max(fills)}
    for millions in (10, *given.million):
        took = {method: round(seconds(millions * 100_000, method), 3) for method in METHODS}
        figures["seconds" if millions == 10 else f"seconds_{millions}"] = took
        print(f"{millions} million request-actions: {took}")
    of_pass = [[seconds(PASS, method) for _ in range(TIMES)] for method in METHODS]
    medians = 1000 * np.median(of_pass, axis=1)
    figures["pass_ms"] = dict(zip(METHODS, medians.round(3).tolist(), strict=True))
    _common.finish("solver", figures, save=given.save)


if __name__ == "__main__":
    main()
