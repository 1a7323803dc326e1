"""What COLD and gates must find where it is known; the benchmark runs the same at full size."""

import pytest
import torch

from benchmarks import preranking_planted as planted
from headrace.nn.gated import Gated
from headrace.nn.gates import Costs
from headrace.preranking.cold import Cold


def test_cold_sees_pairs_that_the_vector_product_cannot():
    auc = planted.interaction(seed=1, requests=2_000, epochs=2)
    assert auc["cold"] >= auc["vector"] + 0.1


def test_the_most_important_groups_are_those_that_tell():
    world = planted.groups_world(seed=3, requests=2_000)
    assert planted.importance(world, seed=3, epochs=2) >= 0.8


def test_gates_keep_what_tells_and_little_else():
    world = planted.groups_world(seed=1, requests=1_500)
    out = planted.gates(world, seed=1, epochs=4, budget=0.15, hidden=(64, 32))
    kept = set(out.kept)
    assert len(kept & set(world.informative)) >= 8
    assert len(kept - set(world.informative)) <= 6
    assert out.removed >= 0.6
    assert out.after >= out.before - 0.003


@pytest.mark.parametrize("seed", [1, 3])
def test_of_equal_twins_the_dearer_goes_first(seed):
    world = planted.twins_world(seed=seed, requests=800)
    torch.manual_seed(seed)
    model = Cold.Config(hidden=(16,), squeeze=False).build(world.space, ("click",))
    planted.train(model, world.train, 1)
    plain = Costs.multiplications(model.stack().inputs, (16,), 1)
    fetch = torch.tensor([planted.DEAR if name in world.dear else 1.0 for name in model.groups])
    costs = Costs(fetch * plain.full / fetch.sum(), plain.first_G, plain.deeper)
    steps = 16 * len(planted.Pieces(world.train))
    gated = Gated(Gated.Config(budget=0.3), model, costs, steps)
    planted.train(gated, world.train, 16)
    gates = dict(zip(model.groups, gated.gates.groups.log_alpha.tolist(), strict=True))
    assert all(gates[dear] < gates[cheap] for cheap, dear in world.twins)
    kept = set(gated.release().kept)
    assert {cheap for cheap, _ in world.twins} <= kept
    assert len(kept & set(world.dear)) <= 1
    assert not kept & {"u", "i", "history"}
