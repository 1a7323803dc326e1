"""A stage's own word joined with the word of the stage before it.

Models see the features of a candidate; the channels that found it know other things, such as what
else was bought with it. Neither is the better for forgetting the other:

    logit p = a logit(own) + b logit(before) + c,   a, b ≥ 0

one line a task, fitted on what validation requests took of the candidates that reached the stage.
"Before" is a blend itself, so that what retrieval knew reaches the slate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

MIN_EACH = 50  # taken, and not taken, that a line must rest on
_NEAREST = 1e-9  # probabilities are kept this far from 0 and 1


@final
@dataclass(frozen=True)
class Blend:
    """One line a task."""

    line: Tensor  # (T, 3) float64: a, b, c

    @classmethod
    def identity(cls, num_tasks: int) -> Blend:
        """Only a stage's own word."""
        return cls(torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).repeat(num_tasks, 1))

    @cached_property
    def is_identity(self) -> bool:
        """Whether nothing is said but the stage's own word."""
        return torch.equal(self.line, Blend.identity(len(self.line)).line)

    @classmethod
    def fit(cls, own_NT: Tensor, before_NX: Tensor, label_NT: Tensor) -> Blend:
        """Fit to probabilities of candidates and what became of these.

        X is T, or 1 where the stage before says one thing for all tasks. A task with fewer than 50
        candidates of either outcome keeps its own word.
        """
        before_NT = before_NX.expand_as(own_NT)
        lines = [
            _line(np.stack([_logit(own_N), _logit(before_N)], axis=1), label_N.numpy() > 0)
            for own_N, before_N, label_N in zip(own_NT.T, before_NT.T, label_NT.T, strict=True)
        ]
        return cls(torch.tensor(lines, dtype=torch.float64))

    def apply(self, own_NT: Tensor, before_NX: Tensor) -> Tensor:
        """Blended probabilities ``(N, T) float32``; as they are where a line is the identity."""
        if self.is_identity:
            return own_NT
        own, before, constant = self.line.unbind(1)
        logit_NT = own * own_NT.double().logit(_NEAREST)
        logit_NT = logit_NT + before * before_NX.double().logit(_NEAREST) + constant
        return logit_NT.sigmoid().float()

    def arrays(self) -> Mapping[str, Tensor]:
        """The lines."""
        return {"line": self.line}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> Blend:
        """Take up a blend."""
        return cls(arrays["line"])


def _logit(probability_N: Tensor) -> NDArray[Any]:
    return probability_N.double().logit(_NEAREST).numpy()


def _line(logit_N2: NDArray[Any], taken_N: NDArray[Any]) -> list[float]:
    """a, b and c; a word that would count against itself does not count."""
    line = [1.0, 0.0, 0.0]
    if min(taken_N.sum(), (~taken_N).sum()) < MIN_EACH:
        return line
    for used in ([0, 1], [0], [1]):
        model = LogisticRegression(C=100.0, solver="newton-cholesky")
        model.fit(logit_N2[:, used], taken_N)
        slope = np.asarray(model.coef_)[0]
        if (slope >= 0).all() and slope.any():
            fitted = np.zeros(2)
            fitted[used] = slope
            return [*fitted.tolist(), float(np.asarray(model.intercept_)[0])]
    return line
