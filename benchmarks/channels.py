"""What the settings of the counting channels are worth, one channel at a time.

    python -m benchmarks.channels [--config examples/complete_journey.toml] [--only swing]

Each variant is a channel of the configuration with some settings changed. It is fitted as a run
does it: settings tuned on the validation period, then all counted anew up to the test period. Then
it is asked for the first test request of each user, as it is and with the users' old items left
out. Recall of its own list, with the standard error of recall@200; no merge, no ranker.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks import _common
from headrace.data import Candidates
from headrace.errors import HeadraceError
from headrace.evaluation import lists, metrics
from headrace.pipeline.train import without_seen
from headrace.retrieval._base import Channel
from headrace.run import Run
from headrace.samples import Samples
from headrace.stages import Recountable
from headrace.training import Trainer

QUOTA = 400
CHOSEN = {"half_life_days", "mix", "tau_days", "repeat_power"}  # what channels tune
AS_CONFIGURED: Mapping[str, Any] = {}
VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "popular": {
        "as configured": AS_CONFIGURED,
        "a list for each store": {"context": "store"},
    },
    "repurchase": {
        "as configured": AS_CONFIGURED,
        "tau of 90 days alone": {"tau_days": (90.0,), "repeat_power": (0.0,)},
    },
    "affinity": {
        "as configured": AS_CONFIGURED,
        "without on_show": {"on_show": False},
        "type alone, without on_show": {"on_show": False, "attributes": (("type",),)},
    },
    "item_cf": {
        "as configured": AS_CONFIGURED,
        "plain formula": {"together_days": None},
        "plain formula, baskets as units": {"together_days": None, "unit": "request"},
        "together_days = 7": {"together_days": 7.0},
        "together_days = 30": {"together_days": 30.0},
    },
    "swing": {
        "as configured": AS_CONFIGURED,
        "not normalised": {"normalise": False},
        "max_users = 50": {"max_users": 50},
        "max_users = 200": {"max_users": 200},
    },
}


class Bench:
    """The test requests, asked both ways."""

    def __init__(self, samples: Samples) -> None:
        rows, truth = samples.first_requests("test")
        requests = samples.features(rows)
        new = Candidates(truth).take(torch.nonzero(samples.is_new(rows, truth))[:, 0]).item_id
        self.samples, self.size = samples, len(rows)
        self._asked = {
            "": (requests, truth),
            "new_": (without_seen(requests, samples, rows), new),
        }

    def judge(self, settings: Any) -> dict[str, Any]:
        """Fit one variant and ask it."""
        start = time.perf_counter()
        channel: Channel = settings.build(self.samples.space)
        part = channel.fit(self.samples, "variant", Trainer())
        part = part.recount(self.samples) if isinstance(part, Recountable) else part
        seconds = time.perf_counter() - start
        out: dict[str, Any] = {}
        for which, (requests, truth) in self._asked.items():
            found = part.retrieve(requests, torch.full((self.size,), QUOTA)).item_id
            matches = lists.match(found, truth)
            for k in lists.RECALL_LENGTHS:
                out[f"{which}recall@{k}"] = round(metrics.mean(matches.recall(k)), 4)
            out[f"{which}se"] = round(metrics.standard_error(matches.recall(200)), 4)
        arrays = part.arrays()
        chosen = {name: round(float(arrays[name]), 3) for name in arrays if name in CHOSEN}
        return out | {"chosen": chosen, "fit_seconds": round(seconds, 1)}


def main() -> None:
    """Judge every variant."""
    options = _common.parser(__doc__)
    options.add_argument("--config", type=Path, default=Path("examples/complete_journey.toml"))
    options.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    given = options.parse_args()
    try:
        run = Run.of(given.config)
        run.ingest()
        bench = Bench(run.samples())
    except HeadraceError as error:
        sys.exit(f"error: {error}")
    torch.set_num_threads(run.app.threads)
    figures: dict[str, dict[str, Any]] = {}
    for channel in given.only:
        for name, change in VARIANTS[channel].items():
            settings = run.app.retrieval[channel].model_copy(update=dict(change))
            figures.setdefault(channel, {})[name] = bench.judge(settings)
            print(f"{channel}, {name}: {figures[channel][name]}", flush=True)
    _common.finish("channels", {"requests": bench.size, "channels": figures}, save=given.save)


if __name__ == "__main__":
    main()
