"""Gates on input groups and hidden units: training finds what can go, and then it is gone.

  G  groups of a stack's inputs    H  units of a hidden layer    N  rows

Each gate is a hard-concrete variable of "Learning Sparse Neural Networks through L0 Regularization"
(Louizos et al., ICLR 2018, arXiv:1712.01312, equations 10 to 12): mostly 0 or 1, with a gradient.
What is paid for an open gate is not counted but measured: making a feature and looking it up, the
group's part of the first layer, the layers between units. Departures: the penalty is a share of the
cost of the whole, its weight can follow a budget, and gates are drawn anew in every row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from .mlp import Dice, PReLU

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1  # temperature and stretch, as in the authors' code
START = 2.5  # log alpha at first: open with a chance of 0.98
PACE = 20.0  # how much faster than weights a gate learns, in a training of a thousand steps
REACH = 5.0  # -log α at most: shut but for a chance of 0.03
MULTIPLE = 8  # widths are rounded up to it: kernels work in such strides


class Input(NamedTuple):
    """One group of neighbouring inputs of a stack."""

    name: str
    width: int
    optional: bool = True  # whether it may go


@dataclass(frozen=True, slots=True)
class Stack:
    """Where a model keeps the layers under its outputs, and what enters them, in order."""

    path: str  # of the nn.Sequential within the model
    inputs: tuple[Input, ...]
    by_input: tuple[str, ...] = ()  # parameters of the model with a row for each input
    by_group: tuple[str, ...] = ()  # ... for each group


@final
class HardConcrete(nn.Module):
    """Gates in [0, 1]: random while training, fixed otherwise. Those not ``optional`` stay at 1."""

    optional: Tensor  # (size,) bool

    def __init__(self, optional: Tensor, pace: float = PACE) -> None:
        super().__init__()
        self.pace = pace
        # stored as a pace-th, so that the steps of an adaptive rule are so many times as long
        self.slow = nn.Parameter(torch.full(optional.shape, START / pace))
        self.register_buffer("optional", optional)

    @property
    def log_alpha(self) -> Tensor:  # (size,)
        return self.slow * self.pace

    @torch.no_grad()
    def hold(self) -> None:
        """Keep gates where they still learn: one that is all but surely open feels no price."""
        self.slow.clamp_(-REACH / self.pace, START / self.pace)

    def draw(self, rows: int) -> Tensor:  # (rows, size)
        """Random gates."""
        noise = torch.empty(rows, len(self.slow)).uniform_(1e-6, 1 - 1e-6).logit()
        drawn = _stretch(((noise + self.log_alpha) / BETA).sigmoid())
        return torch.where(self.optional, drawn, 1.0)

    def fixed(self) -> Tensor:  # (size,)
        """The gates as they are after training."""
        return torch.where(self.optional, _stretch(self.log_alpha.sigmoid()), 1.0)

    def chance(self) -> Tensor:  # (size,)
        """How likely each gate is to be open, the differentiable count of what is open."""
        opening = (self.log_alpha - BETA * math.log(-GAMMA / ZETA)).sigmoid()
        return torch.where(self.optional, opening, 1.0)

    def forward(self, x_NH: Tensor) -> Tensor:
        """Gate the columns."""
        return x_NH * (self.draw(len(x_NH)) if self.training else self.fixed())


@dataclass(frozen=True, slots=True)
class Costs:
    """What the parts of a stack cost, in any one unit: time measured, or multiplications."""

    fetch_G: Tensor  # of having a group at all
    first_G: Tensor  # of a group's part in the first layer, all units there
    deeper: tuple[float, ...]  # of each later layer, all units there
    shared: tuple[tuple[tuple[int, ...], float], ...] = ()  # paid once for any of some groups

    @classmethod
    def multiplications(cls, inputs: Sequence[Input], hidden: Sequence[int], outputs: int) -> Costs:
        """The plain count, where nothing was measured."""
        widths = (*hidden, outputs)
        first_G = torch.tensor([float(each.width * hidden[0]) for each in inputs])
        deeper = tuple(float(a * b) for a, b in zip(hidden, widths[1:], strict=True))
        return cls(torch.zeros(len(inputs)), first_G, deeper)

    def of(self, open_G: Tensor, share: Sequence[Tensor]) -> Tensor:
        """The cost when groups are open by this much, and this share of each layer's units."""
        one = open_G.new_ones(())
        total = (self.fetch_G * open_G).sum() + (self.first_G * open_G).sum() * share[0]
        for groups, cost in self.shared:
            total = total + cost * (1 - (1 - open_G[list(groups)]).prod())
        for cost, a, b in zip(self.deeper, share, (*share[1:], one), strict=True):
            total = total + cost * a * b
        return total

    @property
    def full(self) -> float:
        """With everything open."""
        ones = [torch.ones(())] * len(self.deeper)
        return float(self.of(torch.ones(len(self.fetch_G)), ones))


class Slim(NamedTuple):
    """A smaller stack that computes what the gated one did."""

    layers: nn.Sequential
    kept: tuple[str, ...]  # groups, in order
    hidden: tuple[int, ...]


@final
class GatedStack(nn.Module):
    """A stack of ``mlp`` with a gate on each group of its inputs and on each hidden unit."""

    group: Tensor  # (D,) int64, of each input

    def __init__(self, layers: nn.Sequential, inputs: Sequence[Input], pace: float = PACE) -> None:
        super().__init__()
        self.layers, self.inputs = layers, tuple(inputs)
        self.groups = HardConcrete(torch.tensor([each.optional for each in inputs]), pace)
        every = [torch.ones(linear.out_features, dtype=torch.bool) for linear in self._linear[:-1]]
        self.units = nn.ModuleList(HardConcrete(units, pace) for units in every)
        widths = torch.tensor([each.width for each in inputs])
        self.register_buffer("group", torch.repeat_interleave(widths))
        if len(self.group) != self._linear[0].in_features:
            raise ValueError(f"{len(self.group)} inputs told, {self._linear[0].in_features} there")

    @property
    def _linear(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @property
    def _unit_gates(self) -> list[HardConcrete]:
        return [gates for gates in self.units if isinstance(gates, HardConcrete)]

    def forward(self, x_ND: Tensor) -> Tensor:
        open_ = self.groups.draw(len(x_ND)) if self.training else self.groups.fixed()
        x = x_ND * open_[..., self.group]
        gates = iter(self.units)
        for place, layer in enumerate(self.layers):
            if place and isinstance(layer, nn.Linear):
                x = next(gates)(x)
            x = layer(x)
        return x

    def hold(self) -> None:
        """Keep all gates where they still learn."""
        for gates in (self.groups, *self._unit_gates):
            gates.hold()

    def cost(self, costs: Costs) -> Tensor:
        """Expected cost as gates stand, with its gradient."""
        share = [gates.chance().mean() for gates in self._unit_gates]
        return costs.of(self.groups.chance(), share)

    @torch.no_grad()
    def cost_left(self, costs: Costs) -> float:
        """Cost of what ``slim`` keeps."""
        slim = self.slim()
        open_G = torch.tensor([float(each.name in slim.kept) for each in self.inputs])
        full = [linear.out_features for linear in self._linear]
        share = [torch.tensor(a / b) for a, b in zip(slim.hidden, full, strict=False)]
        return float(costs.of(open_G, share))

    @torch.no_grad()
    def slim(self) -> Slim:
        """Fold the gates into the weights behind them and leave out what is shut.

        In eval mode the result equals the gated stack. Widths are rounded up by units that are
        shut, whose outgoing weights are zero.
        """
        open_G = self.groups.fixed()
        if not open_G.any():  # shut altogether: the last to go stays, shut as it is
            kept_G = torch.zeros_like(self.groups.optional)
            kept_G[self.groups.log_alpha.argmax()] = True
        else:
            kept_G = open_G > 0
        columns, scale = torch.nonzero(kept_G[self.group])[:, 0], open_G[self.group]
        layers: list[nn.Module] = []
        hidden: list[int] = []
        gates, rows = iter(self._unit_gates), columns
        for layer in self.layers:
            if not isinstance(layer, nn.Linear):
                layers.append(_narrowed(layer, rows))
                continue
            unit = next(gates, None)
            columns = rows
            rows = torch.arange(layer.out_features) if unit is None else _units(unit)
            layers.append(_part(layer, scale, columns, rows))
            if unit is not None:
                hidden.append(len(rows))
                scale = unit.fixed()
        kept = tuple(each.name for each, stays in zip(self.inputs, kept_G, strict=True) if stays)
        return Slim(nn.Sequential(*layers).train(self.training), kept, tuple(hidden))


def _stretch(s: Tensor) -> Tensor:
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def _units(gates: HardConcrete) -> Tensor:
    """Those to keep, in order: the open ones, and the nearest to it up to a round width."""
    num_open = int((gates.fixed() > 0).sum())
    width = min(len(gates.slow), max(1, math.ceil(num_open / MULTIPLE)) * MULTIPLE)
    return gates.log_alpha.argsort(descending=True, stable=True)[:width].sort().values


def _part(layer: nn.Linear, scale: Tensor, columns: Tensor, rows: Tensor) -> nn.Linear:
    part = nn.Linear(len(columns), len(rows))
    part.weight.copy_((layer.weight * scale)[rows][:, columns])
    part.bias.copy_(layer.bias[rows])
    return part


def _narrowed(layer: nn.Module, units: Tensor) -> nn.Module:
    """What stands between linear layers, for some of the units."""
    match layer:
        case PReLU():
            part = PReLU(len(units))
            part.weight.copy_(layer.weight[units])
        case Dice():
            part = Dice(len(units))
            part.alpha.copy_(layer.alpha[units])
            for name, values in layer.norm.named_buffers():
                part.norm.get_buffer(name).copy_(values[units] if values.dim() else values)
        case nn.ReLU():
            return nn.ReLU()
        case nn.Dropout():
            return nn.Dropout(layer.p)
        case _:
            raise TypeError(f"no way to narrow a layer of type {type(layer).__name__}")
    return part
