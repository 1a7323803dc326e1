"""Ways to run the foil's scorer: our kernel, PyTorch, ``torch.compile``, ONNX Runtime.

An attention scorer as in ``benchmarks.foil`` (``_foil_world``), untrained: its weights are random,
which changes scores and not their cost. One request with 50 events, its user part made beforehand,
asks for scores of 300 items (a hop of a search), 3,000 and 30,000 (a share of a scan), scattered
over a catalogue; a way gets their numbers and gathers their rows itself. Items are drawn anew for
every call, so that nobody finds rows in the cache by another's work. What lies between:

    kernel     ``ops.attention_score``, all in one pass over tiles of items; what headrace serves by
    plain      ``AttentionScorer.cross`` in PyTorch, as it is served without a kernel
    compiled   the same and its gather by ``torch.compile`` (inductor, any number of items)
    onnx       the same by ONNX Runtime, the user part among its inputs; rows gathered before

over rows of fp32 or bf16 (the kernel sums in float32 all the same). Scores of each way are held
against those of plain fp32 PyTorch before it is timed; ``error`` is the largest difference as a
share of their standard deviation. Ways take turns, round after round, each after a pause for the
idle threads of others to stop spinning; ``us`` is the median call, ``least_us`` the fastest,
``ratio`` plain fp32's ``us`` over it at as many threads. A way that this machine cannot run is null
and its reason under ``missing``: ``onnx`` without ``pip install '.[benchmarks]'``, ``compiled``
without a C++ compiler.

    python -m benchmarks.foil_scorers [--items 200000] [--rounds 15]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import _common
from benchmarks._foil_world import EVENTS, SCORERS, samples_of, world_of
from headrace.data import Requests
from headrace.features import FeatureSpace
from headrace.log import write_log
from headrace.ops import attention_score
from headrace.retrieval._attention import Attending, AttentionScorer
from headrace.retrieval._searched import DTYPES, Precision, item_part
from headrace.retrieval._split import Scores
from headrace.training.torch_state import threads
from headrace.world import World

Array = NDArray[Any]
SIZES = {300: 20, 3_000: 10, 30_000: 4}  # items of a call, and calls a turn
PAUSE_S = 0.1  # idle threads of OpenMP and ONNX Runtime spin, and would slow down who is next
TEAMS = (1, 2)  # threads
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 0.1}  # of the scores' deviation


@dataclass(frozen=True)
class Case:
    """One request and a catalogue, in both precisions."""

    scorer: AttentionScorer
    request: Requests
    vector_IV: Tensor
    row_IX: dict[Precision, Tensor]
    users: dict[Precision, Attending]

    def kernel(self, precision: Precision) -> Scores:
        """As it is served."""
        bonus_I = torch.zeros(len(self.vector_IV))
        scores = self.scorer.fused(self.vector_IV, self.row_IX[precision], bonus_I)
        (made,) = scores(self.request)
        assert isinstance(made, attention_score.Scorer)
        return made

    def plain(self, precision: Precision) -> Scores:
        """PyTorch, operation by operation."""
        return lambda item_N: self._score(precision, torch.from_numpy(item_N)).numpy()

    def compiled(self, precision: Precision) -> Scores:
        """PyTorch's compiler; the first call for some number of threads compiles."""
        score = torch.compile(self._score, dynamic=True)
        return lambda item_N: score(precision, torch.from_numpy(item_N)).numpy()

    def onnx(self, precision: Precision) -> Scores:
        """The cross as an ONNX graph, for as many threads as PyTorch has now."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        users, row_IX = self.users[precision], self.row_IX[precision]
        assert users.recent is not None
        user = [users.product, users.half]
        user += [users.recent.key, users.recent.bias, users.recent.value]
        net = onnxruntime.InferenceSession(
            exported(Cross(self.scorer, users).eval(), row_IX, user), options
        )
        name, *names = (each.name for each in net.get_inputs())
        fed = {of: part.numpy() for of, part in zip(names, user, strict=True)}

        def scores(item_N: Array) -> Array:
            row_NX = row_IX.index_select(0, torch.from_numpy(item_N))
            return np.asarray(net.run(None, {**fed, name: row_NX.numpy()})[0])

        return scores

    def _score(self, precision: Precision, item: Tensor) -> Tensor:
        row_NX = self.row_IX[precision].index_select(0, item)
        return self.scorer.cross(self.users[precision], item, row_NX)


class Cross(nn.Module):
    """The cross with all that a request brings as arguments; weights are constants."""

    def __init__(self, scorer: AttentionScorer, users: Attending) -> None:
        super().__init__()
        self._scorer, self._users = scorer, users

    def forward(
        self, row: Tensor, product: Tensor, half: Tensor, key: Tensor, bias: Tensor, value: Tensor
    ) -> Tensor:
        """Scores of the items of ``row (n, X)``."""
        users = self._users
        recent = users.recent and replace(users.recent, key=key, bias=bias, value=value)
        users = replace(users, product=product, half=half, recent=recent)
        return self._scorer.cross(users, row.new_zeros(row.shape[0], dtype=torch.int64), row)


def exported(cross: Cross, row_IX: Tensor, user: list[Tensor]) -> bytes:
    """A model for any number of rows."""
    sizes = ({0: torch.export.Dim("n", min=2)}, *(None for _ in user))
    made = torch.onnx.export(
        cross, (row_IX[:300], *user), dynamo=True, dynamic_shapes=sizes, verbose=False
    )
    assert made is not None
    return made.model_proto.SerializeToString()


def case(num_items: int) -> Case:
    """A world with few people, a scorer of random weights, one of the later requests."""
    world = world_of(num_items)
    world = world.model_copy(update={"people": world.people.model_copy(update={"users": 400})})
    with tempfile.TemporaryDirectory() as folder:
        samples = samples_of(write_log(Path(folder) / "log", World(world).raw_log(), "foil"), 1.0)
        request = samples.features(samples.requests("test")[:1])
    assert request.ragged("history.item").lengths.tolist() == [EVENTS]
    scorer = untrained(samples.space)
    vector_IV, row_IX = item_part(scorer, torch.arange(len(samples.space.catalogue)), torch.float32)
    return Case(
        scorer,
        request,
        vector_IV,
        {name: row_IX.to(dtype) for name, dtype in DTYPES.items()},
        {n: scorer.users(request, vector_IV, dtype).one(0) for n, dtype in DTYPES.items()},
    )


def untrained(space: FeatureSpace) -> AttentionScorer:
    """A scorer none of whose weights is zero, so that no part of it is idle."""
    torch.manual_seed(0)
    scorer = SCORERS["foil"].build(space)
    for weight in scorer.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    scorer.freeze()
    return scorer


Way = tuple[str, Precision]
WAYS: dict[Way, Callable[[Case, Precision], Scores]] = {
    ("kernel", "fp32"): Case.kernel,
    ("kernel", "bf16"): Case.kernel,
    ("plain", "fp32"): Case.plain,
    ("plain", "bf16"): Case.plain,
    ("compiled", "fp32"): Case.compiled,
    ("compiled", "bf16"): Case.compiled,
    ("onnx", "fp32"): Case.onnx,
}


class Draws:
    """Items anew for every call."""

    def __init__(self, num_items: int) -> None:
        self._rng, self._num_items = np.random.default_rng(0), num_items

    def __call__(self, size: int) -> Array:  # (size,) int32
        return self._rng.integers(1, self._num_items, size, dtype=np.int32)


def ready(given: Case, draw: Draws) -> tuple[dict[Way, Scores], dict[Way, float], dict[str, str]]:
    """The ways that there are, how far each is from plain fp32, and why which are not.

    Raises RuntimeError if one is too far.
    """
    expected = given.plain("fp32")
    ways, errors, missing = dict[Way, Scores](), dict[Way, float](), dict[str, str]()
    for way, make in WAYS.items():
        try:
            scores = make(given, way[1])
            scores(draw(300))  # compiles
        except (ImportError, RuntimeError) as error:
            missing[" ".join(way)] = str(error).strip().splitlines()[0]
            continue
        for size in SIZES:
            item_N = draw(size)
            wanted_N = expected(item_N)
            error = float(np.abs(scores(item_N) - wanted_N).max() / wanted_N.std())
            errors[way] = max(error, errors.get(way, 0.0))
        if not errors[way] <= TOLERANCE[way[1]]:
            raise RuntimeError(f"{way}: scores are off by {errors[way]:.2g} standard deviations")
        ways[way] = scores
    return ways, errors, missing


def timed(ways: dict[Way, Scores], size: int, rounds: int, draw: Draws) -> dict[Way, list[float]]:
    """Microseconds of calls; the first of each turn does not count."""
    times: dict[Way, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, scores in ways.items():
            time.sleep(PAUSE_S)
            scores(draw(size))
            for _ in range(SIZES[size]):
                item_N = draw(size)
                begun = time.perf_counter()
                scores(item_N)
                times[way].append(1e6 * (time.perf_counter() - begun))
    return times


def table(times: dict[Way, list[float]], size: int) -> dict[str, dict[str, float] | None]:
    """A row a way; null is one that did not run."""
    us = {way: median(some) for way, some in times.items()}
    return {
        " ".join(way): {
            "us": round(us[way], 1),
            "least_us": round(min(times[way]), 1),
            "items_per_s": round(1e6 * size / us[way]),
            "ratio": round(us["plain", "fp32"] / us[way], 2),
        }
        if way in us
        else None
        for way in WAYS
    }


def main() -> None:
    """Print a line a way and size and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--items", type=int, default=200_000)
    options.add_argument("--rounds", type=int, default=15)
    chosen = options.parse_args()
    rows: dict[str, Any] = {}
    errors, missing = dict[Way, float](), dict[str, str]()
    with torch.no_grad():
        with threads(1):
            given = case(chosen.items)
        draw = Draws(len(given.vector_IV))
        for team in TEAMS:
            with threads(team):
                ways, errors, missing = ready(given, draw)
                for size in SIZES:
                    row = table(timed(ways, size, chosen.rounds, draw), size)
                    rows.setdefault(str(size), {})[f"threads={team}"] = row
                    for name, found in row.items():
                        print(f"{size} items, {team} threads, {name}: {found}", flush=True)
    figures = {
        "items": chosen.items,
        "error": {" ".join(way): error for way, error in errors.items()},
        "missing": missing,
        "onnxruntime": None if "onnx fp32" in missing else version("onnxruntime"),
        "sizes": rows,
    }
    _common.finish("foil_scorers", figures, save=chosen.save)


if __name__ == "__main__":
    main()
