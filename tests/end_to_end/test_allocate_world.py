"""The real cascade, trained on the synthetic world, profiled, replayed, and policies compared."""

from contextlib import nullcontext

import numpy as np

from headrace.allocation.compare import Pool
from headrace.allocation.logged import Logged
from headrace.allocation.model import REPLAY
from headrace.evaluation import allocate as work
from headrace.run import Run
from tests.end_to_end.conftest import headrace

WORLD = """
name = "simulated"
run = "RUN"
seed = 1
threads = 1
tiers = ["light"]
[source]
kind = "world"
[source.world]
preset = "shop"
seed = 3
catalogue = { items = 300 }
people = { users = 200, events_per_user = 60 }
[schema]
default_dim = 4
[schema.features]
item = { of = "item", encode = "id" }
category = { of = "item" }
user_item_count = { of = "cross" }
item_popularity_28 = { of = "cross" }
[schema.sequences]
history = { length = 20 }
lifetime = { length = 200 }
[samples]
tasks = ["view"]
test_days = 14
valid_days = 10
[retrieval.popular]
kind = "popular"
[retrieval.repurchase]
kind = "repurchase"
[preranking]
kind = "vector"
[ranking]
kind = "mlp"
hidden = [64]
[compare.light]
kind = "lr"
[value]
formula = "p_view * price"
[reranking]
kind = "mmr"
worth = 0.02
[allocation]
kind = "fixed"
[allocation.quota]
popular = 80
repurchase = 80
retrieval = 100
preranking = 30
reranking = 5
"""


def test_policies_on_the_synthetic_world(tmp_path):
    config = tmp_path / "world.toml"
    config.write_text(WORLD.replace("RUN", str(tmp_path / "run")))
    headrace("ingest", config)
    headrace("train", config)
    opened = work.Opened.of(Run.of(config))
    quota = dict(opened.run.app.allocation.quota)
    actions = work.profile(opened, lambda _: nullcontext(), 4, quota)
    assert {"ranking.light", "reranker"} <= set(actions.quotas[0])
    work.replay(opened, lambda _: nullcontext(), 1_000, "gbdt")
    pool = Pool.of(actions, Logged.read(opened.folder / REPLAY))
    assert len(pool) > 100
    curves = pool.curves()
    middle = len(pool.budgets()) // 2
    oracle, dcaf, random = (curves[name][middle] for name in ("oracle", "dcaf", "random"))
    equal = float(np.interp(oracle.cost, *pool.equal()))
    assert oracle.gain >= equal * (1 - 1e-9)  # knows the gains
    assert oracle.gain >= dcaf.gain * (1 - 1e-9) or dcaf.cost > oracle.cost
    at_dcaf = float(np.interp(dcaf.cost, *pool.equal()))
    assert dcaf.gain >= 0.9 * at_dcaf  # on so few requests it need not win
    assert random.gain <= oracle.gain
