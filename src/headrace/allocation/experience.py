"""What live decisions brought, and how far that moves the estimates of a replay.

Of each request chance let either the widest plan run, with probability ``share``, or the one it was
thought worth. So for requests that were thought worth plan w, what the widest brought more than w
is measured without bias, whatever else differs between requests: the sum of the steps from w on.
Of single steps, of plans nobody was thought worth, and of the level nothing is measured.

N requests, J actions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ..errors import DataError
from .decisions import DECISIONS, FORMAT
from .model import Model

Array = NDArray[Any]
EVER = np.iinfo(np.int64).max
LATEST_MS = 1 << 53
MOST_WEIGHT = 100.0  # of a row, in place of its inverse propensity
PRIOR_SD = 0.5  # of how many times a step is what the replay said
ALIKE = 0.5  # share of that variance which all steps have in common


@dataclass(frozen=True)
class Experience:
    """Decisions of one version, in order of time, each request once."""

    user_N: Array
    time_ms_N: Array
    explored_N: Array  # bool: the widest plan by lot
    share_N: Array  # how likely that was
    first_N: Array  # the action it was thought worth before the work; -1 for one long gone
    widest_N: Array
    feature_NF: Array
    items: Sequence[Array]  # shown, by their rows in the log
    left_out: Mapping[str, int]  # lines that tell nothing, by reason

    def __len__(self) -> int:
        return len(self.user_N)


class _Row(NamedTuple):
    """A decision as it was logged."""

    user: int
    time_ms: int
    explored: bool
    share: float
    first: str  # plans by their keys
    widest: str
    features: Array
    items: Array


@dataclass(frozen=True)
class Correction:
    """How many times each step is what the replay said, by what really happened."""

    scale_J: Array
    ratio: float  # of what more computation brought to what was foretold, all steps alike
    error: float  # its standard error
    compared: int  # requests
    explored: int  # of them at the widest plan by lot


def read(folder: Path, model: Model, num_items: int) -> Experience:
    """Read the decision log and its predecessor. Raises DataError without one.

    Of a request that was asked again, wider, the last decision counts.
    """
    paths = [folder / f"{DECISIONS}.1", folder / DECISIONS]
    left_out: Counter[str] = Counter()
    rows: dict[tuple[int, int], _Row] = {}
    width, index = len(model.describe.names), {k: j for j, k in enumerate(model.actions.keys)}
    for line in _lines(paths):
        row = _row(line, model.version, width, num_items)
        if isinstance(row, str):
            left_out[row] += 1
        else:
            rows[row.user, row.time_ms] = row
    kept = sorted(rows.values(), key=lambda row: row.time_ms)
    user_N = np.array([row.user for row in kept], np.int64)
    x_NF = np.array([row.features for row in kept], np.float64).reshape(-1, width)
    return Experience(
        user_N,
        np.array([row.time_ms for row in kept], np.int64),
        np.array([row.explored for row in kept], bool),
        np.array([row.share for row in kept], np.float64),
        np.array([index.get(row.first, -1) for row in kept], np.int64),
        np.array([index.get(row.widest, -1) for row in kept], np.int64),
        model.known(x_NF, user_N),
        [row.items for row in kept],
        left_out,
    )


def correct(
    step_NJ: Array,
    first_N: Array,
    widest_N: Array,
    explored_N: Array,
    share_N: Array,
    real_N: Array,
) -> Correction:
    """The steps' scales, from requests with a lot (``0 < share < 1``) and what they brought.

    Least squares of what was brought on foretold steps times the lot, rows weighted by inverse
    propensity, clipped; the lot is centred under those weights, so that the level cannot mislead
    it, clipped or not. The scales are normal around 1 beforehand, alike in part, so that little
    experience moves them little: real worth is rare and noisy. Negative ones become 0.
    """
    at_J = np.arange(step_NJ.shape[1])
    between_NJ = (at_J > first_N[:, None]) & (at_J <= widest_N[:, None])
    more_NJ = np.where(between_NJ, step_NJ, 0.0)
    lot_N, weight_N = _lots(explored_N, share_N)
    pull_NJ = lot_N[:, None] * more_NJ
    thought_N = np.where(at_J <= first_N[:, None], step_NJ, 0.0).sum(axis=1)
    rest_N = real_N - _level(thought_N, real_N, weight_N)
    square_JJ = (weight_N[:, None] * pull_NJ).T @ pull_NJ
    off_J = pull_NJ.T @ (weight_N * rest_N) - square_JJ.sum(axis=1)
    variance = float(np.average((rest_N - pull_NJ.sum(axis=1)) ** 2, weights=weight_N))
    noise_JJ = variance * (weight_N[:, None] ** 2 * pull_NJ).T @ pull_NJ
    prior_JJ = PRIOR_SD**2 * (ALIKE + (1 - ALIKE) * np.eye(len(at_J)))
    spread_JJ = square_JJ @ prior_JJ @ square_JJ + noise_JJ
    moved_J = prior_JJ @ square_JJ @ np.linalg.pinv(spread_JJ, hermitian=True) @ off_J
    whole = float(square_JJ.sum())
    ratio = 1 + float(off_J.sum()) / whole if whole > 0 else float("nan")
    error = float(np.sqrt(noise_JJ.sum())) / whole if whole > 0 else float("nan")
    scale_J = np.maximum(1 + moved_J, 0.0)
    return Correction(scale_J, ratio, error, len(real_N), int(explored_N.sum()))


def _lots(explored_N: Array, share_N: Array) -> tuple[Array, Array]:
    """The lot less its mean under the weights, and the weights."""
    drawn_N = np.minimum(1 / share_N, MOST_WEIGHT)
    other_N = np.minimum(1 / (1 - share_N), MOST_WEIGHT)
    mean_N = share_N * drawn_N / (share_N * drawn_N + (1 - share_N) * other_N)
    return explored_N - mean_N, np.where(explored_N, drawn_N, other_N)


def _level(thought_N: Array, real_N: Array, weight_N: Array) -> Array:
    """What requests bring anyway; it only takes noise away."""
    root_N = np.sqrt(weight_N)
    parts_N2 = np.column_stack([np.ones(len(thought_N)), thought_N])
    told = np.linalg.lstsq(root_N[:, None] * parts_N2, root_N * real_N, rcond=None)
    return parts_N2 @ told[0]


def _lines(paths: Sequence[Path]) -> Iterator[bytes]:
    there = [path for path in paths if path.exists()]
    if not there:
        raise DataError(f"{paths[-1]}: no decisions; serve with `--allocator dcaf` first")
    for path in there:
        try:
            with path.open("rb") as file:
                yield from file
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _row(line: bytes, version: str, width: int, num_items: int) -> _Row | str:
    """A decision, or why it is none."""
    try:
        row = orjson.loads(line)
        if row.get("format") != FORMAT or row["version"] != version:
            return "of another version"
        whole = all(
            type(row[name]) is int and 0 <= row[name] <= most
            for name, most in (("user", EVER), ("time_ms", LATEST_MS))
        )
        sound = whole and isinstance(row["explored"], bool) and 0 <= row["share"] <= 1
        listed = all(type(item) is int and 0 < item < num_items for item in row["items"])
        told = np.array([float(x) for x in row["features"]])
        items = np.array(row["items"], np.int32)
        keyed = isinstance(row["first"], str) and isinstance(row["widest"], str)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return "torn"
    good = sound and listed and keyed and len(told) == width and bool(np.isfinite(told).all())
    if not good:
        return "torn"
    lot = row["explored"], row["share"]
    return _Row(row["user"], row["time_ms"], *lot, row["first"], row["widest"], told, items)
