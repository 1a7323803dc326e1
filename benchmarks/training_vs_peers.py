"""Training speed of headrace's rankers beside those of other libraries, networks made equal.

One network for all: user, item and category of 16 each, target and events of item and category,
DIN's unit 64-16 with ReLU and no softmax, DNN 128-64 with ReLU. Two data sets: 100,000 items with
histories of up to 100 events, 52 on average, and MovieLens-100K as the wheel of RecBole carries it.
Every sample is a request with one candidate. Contenders run in processes of their own, pinned to
one core or two once they are built, and take turns, so that a slow spell hits all of them; who
waits stands still. The first two turns do not count.

All are handed ready batches and the training loop over these is timed; ``ours_whole`` is headrace
with its batches assembled out of the log meanwhile. What was overridden in a peer, and what
could not be made equal, stands in ``networks``; the best peer is sought among equal ones. Peers
learn by Adam, headrace by AdamW, with row-wise Adagrad for tables, at a rate of their own. Of
several ``--rates`` each learns at the best on training samples held out; with ``--add`` also of
those that were tried before, with every one of ``--starts``, how wide tables begin, times Glorot's
rule; 0 is the library's own. Headrace alone is also tried with every one of ``--tables``, how many
times the dense layers' rate the tables have, and of ``--warmups``, steps over which rates rise.

    python -m benchmarks.training_vs_peers [--peers DIR] [--models din,dien,sim] [--seconds 1.5]
        [--seeds 3] [--rates 1e-3,3e-3] [--starts 0,1,8] [--tables 1,5] [--warmups 0,5]
        [--add]
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from benchmarks import _common
from benchmarks.peers._arena import MODELS, Arena, Cell, Contender, LostError, Recipe

BATCH = 1024
LARGE = 4096
WARM = 2  # turns that do not count: compilers, caches and allocators settle
WHOLE = "ours_whole"
WHAT = ("model", "data", "length", "threads", "batch")  # is measured in a row
GOALS = {"items_100k": 3.0, "movielens": 2.0}
CELLS = (  # what matters most comes first
    Cell("items_100k", "din", 100, 1, (BATCH, LARGE), judged=True),
    Cell("movielens", "din", 100, 1, (BATCH,), judged=True),
    Cell("items_100k", "din", 50, 1, (BATCH,)),
    Cell("items_100k", "din", 100, 2, (BATCH,)),
    Cell("movielens", "din", 100, 2, (BATCH,)),
    Cell("items_100k", "dien", 100, 1, (BATCH,)),
    Cell("items_100k", "sim", 100, 1, (BATCH,)),
)


def time_cell(
    arena: Arena, cell: Cell, contenders: list[Contender], seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """Samples a second of each contender, a row a batch size; median over rounds."""
    speeds: dict[tuple[int, str], list[float]] = {}
    for turn in range(-WARM, rounds):
        for size in cell.sizes:
            for contender, done in _each(
                arena,
                cell,
                contenders,
                do="time",
                size=size,
                seconds=seconds,
            ):
                if turn >= 0:
                    speed = done["samples"] / done["seconds"]
                    speeds.setdefault((size, contender.name), []).append(speed)
            done = contenders[0].ask(do="time", size=size, seconds=seconds, whole=True)
            if turn >= 0:
                speeds.setdefault((size, WHOLE), []).append(done["samples"] / done["seconds"])
    memory = {c.name: m["peak_mb"] for c, m in _each(arena, cell, contenders, do="memory")}
    return [_row(cell, size, contenders, speeds, memory) for size in cell.sizes]


def _each(
    arena: Arena, cell: Cell, contenders: list[Contender], **order: Any
) -> Iterator[tuple[Contender, dict[str, Any]]]:
    """Give all the same order, one after the other; those that are lost leave the list."""
    for contender in contenders.copy():
        try:
            yield contender, contender.ask(**order)
        except LostError as error:
            contenders.remove(contender)
            arena.drop(contender, f"{contender.name} in {cell.name}", error)


def _row(
    cell: Cell,
    size: int,
    contenders: list[Contender],
    speeds: Mapping[tuple[int, str], list[float]],
    memory: Mapping[str, float],
) -> dict[str, Any]:
    speed = {c.name: round(median(speeds[size, c.name])) for c in contenders}
    equal = {c.name: speed[c.name] for c in contenders if c.about["equal"] and c.name != "ours"}
    best = max(equal, key=lambda name: equal[name], default=None)
    row: dict[str, Any] = {
        "model": cell.model,
        "data": cell.data,
        "length": cell.length,
        "threads": cell.threads,
        "batch": size,
        "ours_samples_per_s": speed.pop("ours"),
        "ours_whole_samples_per_s": round(median(speeds[size, WHOLE])),
        "peers": speed,
        "best_peer": best,
        "ratio": None,
        "peak_mb": memory,
    }
    if best is not None:
        row["ratio"] = round(row["ours_samples_per_s"] / equal[best], 2)
    print(f"{cell.name}, batch {size}: ours {row['ours_samples_per_s']}, {speed}", flush=True)
    return row


def learn(
    arena: Arena,
    cell: Cell,
    tries: Mapping[str, Sequence[Recipe]],
    seeds: int,
    earlier: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Test AUC after one epoch: ids of items seen once are learnt by heart in a second.

    Each contender learns by that of its recipes which is best on the last tenth of the training
    samples, held out. Where some were tried ``earlier``, what came of them is kept.
    """
    found = {name: dict(old) for name, old in earlier.items()}
    for name, recipes in tries.items():
        if name not in arena.unavailable:
            with suppress(LostError):  # noted by the arena
                found[name] = _learn(arena, cell, name, recipes, seeds, earlier.get(name, {}))
    return found


def _learn(
    arena: Arena,
    cell: Cell,
    name: str,
    recipes: Sequence[Recipe],
    seeds: int,
    earlier: Mapping[str, Any],
) -> dict[str, Any]:
    held = {Recipe.read(text): auc for text, auc in earlier.get("held_out", {}).items()}
    best = recipes[0]
    if len(recipes) > 1 or held:
        for recipe in recipes:
            held[recipe] = fmean(_fit(arena, cell, name, recipe, seeds, held_out=0.1))
        best = max(held, key=lambda recipe: held[recipe])
    out = {**earlier, "held_out": {str(recipe): round(auc, 4) for recipe, auc in held.items()}}
    if best not in recipes and "mean" in earlier:
        return out
    auc = _fit(arena, cell, name, best, seeds)
    return out | {
        "mean": round(fmean(auc), 4),
        "sd": round(stdev(auc), 4) if len(auc) > 1 else None,
        "seeds": len(auc),
        **best._asdict(),
    }


def _fit(
    arena: Arena, cell: Cell, name: str, recipe: Recipe, seeds: int, **order: Any
) -> list[float]:
    """AUC after one epoch, of a contender made anew for each seed; LostError if it is lost."""
    auc: list[float] = []
    order |= {"do": "fit", "size": BATCH, "epochs": 1}
    for seed in range(1, seeds + 1):
        contenders = arena.start(cell, seed, {name: recipe})
        auc += [done["auc"] for _, done in _each(arena, cell, contenders, **order)]
        if not contenders:
            raise LostError(name)
        contenders[0].end()
    print(f"{cell.name}, {name}, {recipe}, {order}: {auc}", flush=True)
    return auc


def headline(
    rows: list[dict[str, Any]], auc: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    """The figures of DIN at L = 100 and batch 1024, by data set, against the goals."""
    out: dict[str, Any] = {}
    for data, goal in GOALS.items():
        wanted = {"model": "din", "data": data, "length": 100, "batch": BATCH}
        of = {row["threads"]: row for row in rows if wanted.items() <= row.items()}
        if 1 not in of:
            continue
        row, learnt = of[1], auc.get(data, {})
        others = [found["mean"] for name, found in learnt.items() if name != "ours"]
        out[data] = {
            "ours_samples_per_s": row["ours_samples_per_s"],
            "ours_whole_samples_per_s": row["ours_whole_samples_per_s"],
            "peers": row["peers"],
            "best_peer": row["best_peer"],
            "ratio": row["ratio"],
            "ratio_2_threads": of[2]["ratio"] if 2 in of else None,
            "goal": goal,
            "auc": learnt.get("ours", {}).get("mean"),
            "best_peer_auc": learnt.get(row["best_peer"], {}).get("mean"),
            "highest_peer_auc": max(others, default=None),
        }
    return out


def saved() -> dict[str, Any]:
    """The result of an earlier run."""
    path = _common.RESULTS / "training_vs_peers.json"
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    """Print a line a cell and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--peers", type=Path, help="their environment; made if it is not there")
    options.add_argument("--models", default=",".join(MODELS), help="separated by commas")
    options.add_argument("--data", default=",".join(GOALS), help="separated by commas")
    options.add_argument("--threads", default="1,2", help="separated by commas")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=1.0, help="of each turn; 0: none")
    options.add_argument("--minutes", type=float, default=8, help="after which no cell starts")
    options.add_argument("--seeds", type=int, default=1, help="of learning to the end; 0: none")
    options.add_argument("--rates", default="1e-3", help="to learn at, separated by commas")
    options.add_argument("--starts", default="0", help="of tables, times Glorot's, by commas")
    options.add_argument("--tables", default="1", help="times the rate; headrace's, by commas")
    options.add_argument("--warmups", default="0", help="in steps; headrace's, by commas")
    options.add_argument(
        "--contenders", default=",".join(("ours", *MODELS["din"])), help="of learning to the end"
    )
    options.add_argument("--add", action="store_true", help="keep what else was saved")
    given = options.parse_args()
    peers = given.peers or Path(tempfile.gettempdir()) / "headrace-peers"
    models, data = given.models.split(","), given.data.split(",")
    threads = [int(n) for n in given.threads.split(",")]
    every = given.rates, given.starts, given.tables, given.warmups
    settings = [[float(value) for value in values.split(",")] for values in every]
    tries = {
        name: [Recipe(*of) for of in product(*(settings if name == "ours" else settings[:2]))]
        for name in given.contenders.split(",")
    }
    cells = [c for c in CELLS if c.model in models and c.data in data and c.threads in threads]
    earlier, begun = saved() if given.add else {}, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        arena = Arena(Path(folder), peers)
        rows: list[dict[str, Any]] = []
        auc: dict[str, dict[str, dict[str, Any]]] = dict(earlier.get("test_auc", {}))
        left_out: list[str] = []
        for cell in cells:
            if time.monotonic() - begun > 60 * given.minutes:
                left_out.append(cell.name)
                continue
            if cell.judged and given.seeds:
                auc[cell.data] = learn(arena, cell, tries, given.seeds, auc.get(cell.data, {}))
            if not given.seconds:
                continue
            contenders = arena.start(cell)
            rows += time_cell(arena, cell, contenders, given.seconds, given.rounds)
            for contender in contenders:
                contender.end()
    cells_run = [tuple(row[k] for k in WHAT) for row in rows]
    rows += [r for r in earlier.get("rows", []) if tuple(r[k] for k in WHAT) not in cells_run]
    figures = {
        "model": "din",
        **headline(rows, auc).get("items_100k", {}),
        "headline": headline(rows, auc),
        "test_auc": auc,
        "rows": rows,
        "networks": {**earlier.get("networks", {}), **arena.networks},
        "unavailable": arena.unavailable,
        "left_out": left_out,
    }
    _common.finish("training_vs_peers", figures, save=given.save)


if __name__ == "__main__":
    main()
