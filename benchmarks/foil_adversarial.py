"""What the adversarial term of a foil is worth, on the planted world W1, over several seeds.

The same scorer is trained without the term, with it, and with a step far too large, which must hurt
if the term is wired at all. Then its 4,096 items are searched under small budgets. Recall of 1,000
users' targets among all items (recall-all) and along the graph, what is lost between them
(recall-delta), and how much of the exact top 50 a search finds (coverage).

    python -m benchmarks.foil_adversarial [--seeds 5] [--users 21000] [--epsilon 0.03] [--large 3]

The gate: the large step lowers recall-all. The gain of the small one is reported, not required: on
a corpus of this size the source's is small, too.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _common
from benchmarks.two_tower import samples_of
from headrace.data import Ragged
from headrace.log import Log, write_log
from headrace.nn.history import HistoryEncoder
from headrace.ops.graph_search import Effort
from headrace.retrieval._attention import AttentionScorer
from headrace.retrieval._graph import ItemGraph
from headrace.retrieval._objective import Adversary
from headrace.retrieval.foil import Foil, candidates
from headrace.training import Trainer, Training
from headrace.world import World

MOST = 50
WIDTHS = (5, 10, 25, 100)


def settings(epsilon: float, seed: int) -> Foil.Config:
    """A foil for W1; without an adversary at a step of 0."""
    return Foil.Config(
        scorer=AttentionScorer.Config(
            dim=32,
            user_hidden=(128,),
            item_hidden=(),
            encoder=HistoryEncoder.Config(dim=32),
            events=20,
            hidden=(64, 32),
        ),
        adversary=Adversary(epsilon=epsilon) if epsilon else None,
        graph=ItemGraph.Config(links=8),
        training=Training(epochs=1, seed=seed, table_learning_rate=0.05),
    )


def one(log: Log, epsilon: float, seed: int) -> dict[str, float]:
    """Train one variant from one seed and search under every budget."""
    samples, begun = samples_of(log, seed), time.perf_counter()
    channel = settings(epsilon, seed).build(samples.space)
    retriever = channel.fit(samples, f"foil {epsilon}", Trainer())
    seconds = time.perf_counter() - begun
    rows = samples.requests("test")[:1000]
    requests, truth = samples.features(rows), samples.truth(rows)
    best = candidates(retriever.exhaustive(requests, MOST)).item_id
    recall_all = recall(best, truth)
    out = {"recall_all": recall_all, "seconds": seconds}
    for width in WIDTHS:
        found = retriever.with_effort(Effort((width,), (3, 1))).search(requests, MOST)
        item = candidates(found).item_id
        recalled = recall(item, truth)
        out |= {
            f"scored@{width}": float(found.num_scored.mean()) / len(samples.space.catalogue),
            f"coverage@{width}": float(item.within(best).sum()) / len(best.values),
            f"recall@{width}": recalled,
            f"delta@{width}": (recall_all - recalled) / max(recall_all, 1e-9),
        }
    return out


def recall(found: Ragged, truth: Ragged) -> float:
    """Share of the targets that were found."""
    return float(truth.within(found).float().mean())


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and standard error over seeds."""
    error = {k: float(np.std([r[k] for r in rows], ddof=1) / len(rows) ** 0.5) for k in rows[0]}
    return {
        key: {"mean": round(float(np.mean([r[key] for r in rows])), 4), "se": round(error[key], 4)}
        for key in rows[0]
    }


def main() -> None:
    """Print a line a variant and seed and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--users", type=int, default=21_000)
    options.add_argument("--epsilon", type=float, default=0.03, help="of the spread of vectors")
    options.add_argument("--large", type=float, default=3.0, help="the step that must hurt")
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    variants = {"without": 0.0, "with": given.epsilon, "too large": given.large}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for seed in range(1, given.seeds + 1):
        world = World.Config.model_validate(
            {"preset": "w1", "seed": seed, "people": {"users": given.users}}
        )
        with tempfile.TemporaryDirectory() as folder:
            log = write_log(Path(folder) / "log", World(world).raw_log(), "w1")
            for name, epsilon in variants.items():
                rows[name].append(one(log, epsilon, seed))
                shown = {key: round(value, 3) for key, value in rows[name][-1].items()}
                print(f"seed {seed}, {name}: {shown}", flush=True)
    gain = [
        {key: a[key] - b[key] for key in a}
        for a, b in zip(rows["with"], rows["without"], strict=True)
    ]
    hurt = float(np.mean([r["recall_all"] for r in rows["too large"]]))
    plain = float(np.mean([r["recall_all"] for r in rows["without"]]))
    figures = {
        "seeds": given.seeds,
        "users": given.users,
        "epsilon": given.epsilon,
        "large": given.large,
        "variants": {name: summary(found) for name, found in rows.items()},
        "gain": summary(gain),
        "passed": hurt < plain,
    }
    _common.finish("foil_adversarial", figures, save=given.save)


if __name__ == "__main__":
    main()
