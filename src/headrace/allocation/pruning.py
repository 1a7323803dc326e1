"""Which plans of a grid are worth having: few are, and the fewer, the better they are told apart.

N requests, J actions, L prices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..ops.concave import concave

Array = NDArray[Any]
MOST = 16  # actions to choose from: of two that are nearly alike chance picks the dearer
LOSES = 2.0  # times the part of the best buy's cost that it saves, of its gain, a cheaper plan may
PRICES = 24  # at which plans are tried
BEYOND = 4.0  # times the steepest and the least of what more computation brings on average


def worth_having(cost_J: ArrayLike, gain_NJ: ArrayLike, most: int = MOST) -> Array:
    """Which actions to keep, cheapest first, by what each brings to each of some requests.

    Half of them are the best for all requests alike (``pareto``), so that whatever is spent, one
    plan for everyone is had. Then comes, one after another, what brings most where every request
    takes its best at a price, over all prices: what is best for nobody on average may be the best
    for some. Raises DataError on gains that are not finite, of which none would be the best.
    """
    cost, gain = np.asarray(cost_J, np.float64), np.asarray(gain_NJ, np.float64)
    kept = pareto(cost, gain.mean(axis=0), most // 2).tolist()
    open_J = np.flatnonzero(cost >= cost[kept[0]])
    price_L = _prices(cost[open_J], gain[:, open_J].mean(axis=0))
    best_LN = np.stack([(gain[:, kept] - p * cost[kept]).max(axis=1) for p in price_L])
    ideal_L = [(gain[:, open_J] - p * cost[open_J]).max(axis=1).mean() for p in price_L]
    # at every price the part of what is still to be had counts
    missing_L = np.maximum(np.array(ideal_L) - best_LN.mean(axis=1), 0.0)
    while len(kept) < most:
        more_J = np.zeros(len(open_J))
        for price, missing, best_N in zip(price_L, missing_L, best_LN, strict=True):
            if missing > 0:
                over_NJ = gain[:, open_J] - price * cost[open_J] - best_N[:, None]
                more_J += np.maximum(over_NJ, 0.0).mean(axis=0) / missing
        at = int(open_J[more_J.argmax()])
        if not more_J.max() > 0:
            break
        kept.append(at)
        best_LN = np.maximum(best_LN, gain[:, at] - price_L[:, None] * cost[at])
    return np.array(sorted(kept, key=lambda j: (cost[j], j)), np.int64)


def _prices(cost_J: Array, gain_J: Array) -> Array:  # (L,)
    """From where all but nobody has more than the cheapest to where all but everyone has it all."""
    order = np.argsort(cost_J, kind="stable")
    line_J, width_J = concave(gain_J[order][None], cost_J[order])[0], np.diff(cost_J[order])
    slope = np.diff(line_J)[width_J > 0] / width_J[width_J > 0]
    slope = slope[slope > 0]
    if not len(slope):
        return np.zeros(1)
    return np.geomspace(slope.min() / BEYOND, slope.max() * BEYOND, PRICES)


def pareto(cost_J: ArrayLike, gain_J: ArrayLike, most: int = MOST) -> Array:
    """Which actions to keep, cheapest first: none for which another gains more at no more cost.

    The best always stays, and the cheapest, but where little more buys much more: what is cheaper
    than the plan of most gain for its cost may lose at most twice the part of its gain that it
    saves of its cost. Whoever cannot afford that plan does better to refuse some requests than to
    serve all with so much less. Of more than ``most``, those go that are nearest to the line
    between their neighbours. Raises DataError on gains that are not finite, of which none would be
    the best.
    """
    cost, gain = np.asarray(cost_J, np.float64), np.asarray(gain_J, np.float64)
    if not np.isfinite(gain).all():
        raise DataError("plans: gains that are not finite; look at the value formula")
    order = np.lexsort((-gain, cost))
    best = np.maximum.accumulate(gain[order])
    kept: list[int] = order[np.concatenate([[True], best[1:] > best[:-1]])].tolist()
    buy = max(kept, key=lambda j: gain[j] / max(float(cost[j]), 1e-12))
    most_lost_J = LOSES * abs(gain[buy]) * (1 - cost / max(float(cost[buy]), 1e-12))
    kept = [j for j in kept if cost[j] > cost[buy] or gain[buy] - gain[j] <= most_lost_J[j]]
    while len(kept) > max(most, 2):
        bulge = [
            gain[b] - np.interp(cost[b], [cost[a], cost[c]], [gain[a], gain[c]])
            for a, b, c in zip(kept, kept[1:], kept[2:], strict=False)
        ]
        del kept[1 + int(np.argmin(bulge))]
    return np.array(kept, np.int64)
