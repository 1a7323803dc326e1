"""Stacks of linear layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from .. import config
from ..errors import ConfigError, suggest
from ..schema import Schema

Activation = Literal["relu", "prelu", "dice"]


class Dice(nn.Module):
    """Data-adaptive PReLU, DIN section 5.3: the gate opens at the batch mean of each channel.

    ``f(s) = p s + (1 - p) alpha s``, ``p = sigmoid((s - E[s]) / sqrt(Var[s] + eps))``. Batch
    statistics in training, running ones in inference. Alpha starts at 0 as in the authors' code.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, eps=1e-8, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, s: Tensor) -> Tensor:  # (..., width)
        gate = self.norm(s.reshape(-1, s.shape[-1])).sigmoid().reshape(s.shape)
        return s * (gate + (1 - gate) * self.alpha)


class PReLU(nn.Module):
    """Leaky ReLU with one learned slope a channel, the channel being the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.25))

    def forward(self, s: Tensor) -> Tensor:  # (..., width)
        return F.prelu(s.reshape(-1, s.shape[-1]), self.weight).reshape(s.shape)


_ACTIVATION: dict[Activation, Callable[[int], nn.Module]] = {
    "relu": lambda width: nn.ReLU(),
    "prelu": PReLU,
    "dice": Dice,
}


def activate(name: Activation, width: int) -> nn.Module:
    """An activation over vectors of ``width``."""
    return _ACTIVATION[name](width)


class Layers(config.Config):
    """Settings of the hidden layers under a model's outputs; a model's own extend them."""

    hidden: tuple[int, ...] = Field(default=(128, 64), min_length=1)
    """Widths of the hidden layers."""
    activation: Activation = "dice"
    """Of the hidden layers."""
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def layers(self, inputs: int, outputs: int) -> nn.Sequential:
        """Layers from ``inputs`` numbers to ``outputs``."""
        widths = (inputs, *self.hidden, outputs)
        return mlp(*widths, activation=self.activation, dropout=self.dropout)


class FeatureLayers(Layers):
    """Layers over the features of requests and candidates, of which some may be left out."""

    leave_out: tuple[str, ...] = ()
    """Features of users, contexts and pairs that the model does not read."""

    def unread(self, schema: Schema) -> tuple[str, ...]:
        """``leave_out``. Raises ConfigError for what is no such feature."""
        known = [n for side in ("user", "context", "cross") for n in schema.names(side)]
        for name in self.leave_out:
            if name not in known:
                raise ConfigError(f"leave_out: no such feature {name!r}; {suggest(name, known)}")
        return self.leave_out

    def slimmer(
        self, kept: Sequence[str], dropped: Sequence[str], hidden: tuple[int, ...]
    ) -> FeatureLayers:
        """The same without some features, with other widths."""
        del kept
        return self.model_copy(update={"leave_out": (*self.leave_out, *dropped), "hidden": hidden})


def mlp(*widths: int, activation: Activation = "relu", dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of these widths with activations in between, none after the last."""
    layers: list[nn.Module] = []
    for place, (a, b) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(a, b))
        if place < len(widths) - 2:
            layers.append(activate(activation, b))
            if dropout:
                layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def slopes(layers: nn.Sequential) -> list[Tensor]:
    """What numbers below 0 are multiplied by behind each linear layer of ``mlp``; 1 is none.

    Of ``relu`` and ``prelu``; raises ValueError for ``dice``, which is no such thing.
    """
    found: list[Tensor] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            found.append(torch.ones(layer.out_features))
        elif isinstance(layer, nn.ReLU):
            found[-1] = torch.zeros_like(found[-1])
        elif isinstance(layer, PReLU):
            found[-1] = layer.weight
        elif isinstance(layer, Dice):
            raise ValueError("dice is not linear below 0")
    return found
