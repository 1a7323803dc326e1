"""A model in training under gates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from pydantic import Field
from torch import Tensor, nn

from .. import config
from ..data import Batch
from ..errors import ConfigError
from .gates import PACE, Costs, GatedStack, Slim
from .pointwise import Pointwise


@final
class Gated(nn.Module):
    """Trains a model with gates in its stack, at a price for what is open.

    ``loss + λ · C / C_full``, with C the expected cost of what is open. Under a budget λ follows by
    ascent, ``λ ← [λ + pace · (C / C_full - target)]₊``, the target falling from 1 to the budget;
    without one λ rises to ``penalty``. The model's own state of training is used and changed.
    """

    step: Tensor  # () int64
    price: Tensor  # () float32, λ

    class Config(config.Config):
        """Settings of Gated."""

        budget: float | None = Field(default=0.2, gt=0, lt=1)
        """Share of the cost that may stay; none, and ``penalty`` decides."""
        penalty: float = Field(default=0.1, ge=0, le=100)
        """λ where there is no budget."""
        pace: float = Field(default=6.0, gt=0, le=1000)
        """How far λ rises in the whole training for each share of the cost above the target."""
        warm_up: float = Field(default=0.1, ge=0, lt=1)
        """Share of the steps before anything is paid for."""
        ramp: float = Field(default=0.4, gt=0, le=1)
        """Share of the steps in which target or penalty move to their value."""

    def __init__(self, config: Config, model: Pointwise, costs: Costs, steps: int) -> None:
        """``steps`` is the length of the training that warm-up and ramp are shares of.

        Raises ConfigError if the model has no layers to put gates in.
        """
        super().__init__()
        stack = model.stack()
        if stack is None:
            raise ConfigError(f"{type(model).__name__.lower()}: has no hidden layers to slim")
        layers = model.get_submodule(stack.path)
        assert isinstance(layers, nn.Sequential)
        self.config, self.steps, self.costs = config, max(steps, 1), costs
        # at a learning rate of 1e-3 a gate can shut within a quarter of any training
        pace = PACE * min(max(1_000 / steps, 0.25), 5.0)
        self.gates = GatedStack(layers, stack.inputs, pace)
        self.model = model
        model.set_submodule(stack.path, self.gates)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("price", torch.zeros(()))

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """The model's losses, and what is paid for open gates."""
        if self.training:
            self.gates.hold()
        share = self.gates.cost(self.costs) / self.costs.full
        if self.training:
            self._move(float(share.detach()))
        return {**self.model.loss(batch), "cost": self.price * share}

    def _move(self, share: float) -> None:
        begun = int(self.step) / self.steps - self.config.warm_up
        done = min(max(begun / self.config.ramp, 0.0), 1.0)
        budget = self.config.budget
        if budget is None:
            self.price.fill_(self.config.penalty * done)
        elif begun >= 0:  # geometric: to halve is as hard as to halve again
            target = math.exp(done * math.log(budget))
            self.price.add_(self.config.pace / self.steps * (share - target)).clamp_(min=0)
        self.step.add_(1)

    def release(self) -> Slim:
        """Give the model its layers back, and return the slim ones."""
        stack = self.model.stack()
        assert stack is not None
        self.model.set_submodule(stack.path, self.gates.layers)
        return self.gates.slim()


def inherit(slim: Slim, parent: Pointwise, heir: Pointwise) -> None:
    """Give ``heir``, built for the kept groups and widths, the weights of ``parent``.

    Everything outside the stack is taken over by name; the slim layers become the stack.
    """
    stack, whole = heir.stack(), parent.stack()
    assert stack is not None
    assert whole is not None
    known = parent.state_dict()
    stays_G = torch.tensor([each.name in slim.kept for each in whole.inputs])
    widths_G = torch.tensor([each.width for each in whole.inputs])
    for names, stays in (
        (stack.by_group, stays_G),
        (stack.by_input, stays_G.repeat_interleave(widths_G)),
    ):
        known |= {name: known[name][stays] for name in names}
    layers = {f"{stack.path}.{name}": value for name, value in slim.layers.state_dict().items()}
    heir.load_state_dict({name: {**known, **layers}[name] for name in heir.state_dict()})
