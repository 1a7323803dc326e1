import pytest
import torch

from headrace.nn.gates import Costs, GatedStack, HardConcrete, Input
from headrace.nn.mlp import mlp

INPUTS = (Input("a", 3), Input("b", 2, optional=False), Input("c", 4), Input("d", 1))


def stack(activation="relu", hidden=(24, 16), inputs=INPUTS, seed=0):
    torch.manual_seed(seed)
    width = sum(each.width for each in inputs)
    layers = mlp(width, *hidden, 2, activation=activation)
    return GatedStack(layers, inputs)


def scatter(gates):
    """Some gates open, some shut, some between."""
    for each in (gates.groups, *gates.units):
        each.slow.data.uniform_(-6 / each.pace, 4 / each.pace)


@pytest.mark.parametrize("activation", ["relu", "prelu", "dice"])
@pytest.mark.parametrize("seed", range(4))
def test_the_slim_stack_equals_the_gated_one(activation, seed):
    gates = stack(activation, seed=seed)
    scatter(gates)
    for _ in range(3):  # statistics, where there are any
        gates(torch.randn(50, 10))
    gates.eval()
    slim = gates.slim()
    x_ND = torch.randn(40, 10)
    columns = torch.cat(
        [
            part
            for each, part in zip(INPUTS, x_ND.split([3, 2, 4, 1], 1), strict=True)
            if each.name in slim.kept
        ],
        dim=1,
    )
    torch.testing.assert_close(slim.layers(columns), gates(x_ND), atol=1e-6, rtol=1e-5)
    assert "b" in slim.kept
    assert all(width % 8 == 0 for width in slim.hidden)
    assert slim.layers[0].in_features == columns.shape[1]


def test_shut_units_and_groups_are_gone():
    gates = stack(hidden=(64, 32))
    gates.groups.slow.data[:] = torch.tensor([-1.0, -1.0, 1.0, -1.0])
    for units, left in zip(gates.units, (9, 3), strict=True):
        units.slow.data[left:] = -1.0
    slim = gates.slim()
    assert slim.kept == ("b", "c")
    assert slim.hidden == (16, 8)
    assert [tuple(p.shape) for p in slim.layers.parameters() if p.dim() == 2] == [
        (16, 6),
        (8, 16),
        (2, 8),
    ]


def test_something_stays_when_everything_is_shut():
    gates = stack(inputs=(Input("a", 3), Input("c", 4))).eval()
    for each in (gates.groups, *gates.units):
        each.slow.data.fill_(-1.0)
    gates.groups.slow.data[1] = -0.9
    slim = gates.slim()
    assert slim.kept == ("c",)
    assert slim.hidden == (8, 8)
    x_ND = torch.randn(5, 7)
    torch.testing.assert_close(slim.layers(x_ND[:, 3:]), gates(x_ND))


def test_an_open_stack_is_the_stack():
    gates = stack().eval()
    x_ND = torch.randn(5, 10)
    for each in (gates.groups, *gates.units):
        each.slow.data.fill_(1.0)
    assert torch.equal(gates(x_ND), gates.layers(x_ND))
    assert gates.slim().hidden == (24, 16)


def test_chances_are_how_often_gates_are_open():
    gates = HardConcrete(torch.tensor([True, True, True, False]))
    gates.slow.data = torch.tensor([-0.15, 0.0, 0.1, -1.0])
    torch.manual_seed(0)
    often = (gates.draw(20_000) > 0).float().mean(0)
    torch.testing.assert_close(often, gates.chance().detach(), atol=0.015, rtol=0)
    assert often[3] == 1


def test_costs_add_up():
    costs = Costs(
        torch.tensor([1.0, 4.0, 2.0]), torch.tensor([6.0, 6.0, 6.0]), (8.0, 2.0), (((0, 1), 5.0),)
    )
    assert costs.full == pytest.approx(7 + 18 + 10 + 5)
    half = [torch.tensor(0.5), torch.tensor(1.0)]
    left = costs.of(torch.tensor([1.0, 0.0, 0.0]), half)
    assert float(left) == pytest.approx(1 + 3 + 8 * 0.5 + 2 + 5)
    assert float(costs.of(torch.zeros(3), half)) == pytest.approx(4 + 2)  # nobody looks up


def test_multiplications_are_counted():
    costs = Costs.multiplications(INPUTS, (24, 16), 2)
    assert costs.full == 10 * 24 + 24 * 16 + 16 * 2
    gates = stack()
    assert gates.cost_left(costs) == costs.full
    assert gates.cost(costs).item() < costs.full


def test_inputs_must_fit():
    with pytest.raises(ValueError, match="9 inputs told, 10 there"):
        GatedStack(mlp(10, 8, 1), INPUTS[:-1])
