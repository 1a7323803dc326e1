"""What plans cost today: as profiled, by how many requests share a pass, by what was really spent.

R things that are budgeted, the first of them processor time; J actions, B requests of a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from . import resources
from .actions import Actions

Array = NDArray[Any]
SMOOTH = 0.02  # weight of one request in running means
LATELY = 0.1  # in that of what passes took just now
CORRECTIONS = 0.25, 4.0  # one observation tells no less and no more


@final
class Spending:
    """Costs of plans, and running means of what requests take."""

    def __init__(self, actions: Actions, names: Sequence[str]) -> None:
        """``names`` are those of ``resources.NAMES`` that are budgeted."""
        self._actions, self._profiled_RJ = actions, resources.costs(actions, names)
        self._measured_R = np.array([name in resources.MEASURED for name in names])
        self._alone = 1.0  # one over the requests of a pass, a request
        self._lately = 1.0  # the correction by the last ten requests or so
        self.correction, self.spent_ms = 1.0, 0.0
        """How many times the wall time that was profiled requests really took, and that time."""
        self.took_R = np.zeros(len(names))
        """What a request takes of everything, as corrected."""
        self.cost_RJ = self._profiled_RJ
        """What plans take in passes of as many requests as shared one at the last ``refresh``."""

    def arrived(self, size: int) -> None:
        """Requests that came together."""
        self._alone += weight(size) * (1 / max(1, size) - self._alone)

    def refresh(self) -> None:
        """Let costs follow how many share a pass."""
        together_J = self._actions.together(self._alone)
        self.cost_RJ = np.where(self._measured_R[:, None], together_J, 1.0) * self._profiled_RJ

    @property
    def corrections(self) -> Array:  # (R,)
        """How many times what was profiled is really taken; what is counted is exact."""
        return np.where(self._measured_R, self.correction, 1.0)

    def pass_ms(self, size: int) -> Array:  # (J,)
        """Wall time a request in a pass of ``size``, as corrected; by the last passes, if slower.

        When all slows down at once, by a neighbour or a rush, the next pass must know.
        """
        return self._profiled_ms(size) * max(self.correction, self._lately)

    def within(self, power: float) -> Array:  # (J,) bool
        """What MaxPower allows, along everything that is time of this machine; the cheapest always.

        Power 1 allows all plans, 0 the cheapest alone.
        """
        cost_XJ = self.cost_RJ[self._measured_R]
        least_X1, most_X1 = (f(axis=1, keepdims=True) for f in (cost_XJ.min, cost_XJ.max))
        allowed_J = (cost_XJ <= least_X1 + power * (most_X1 - least_X1) + 1e-9).all(axis=0)
        allowed_J[self.cost_RJ[0].argmin()] = True
        return allowed_J

    def observe(self, wall_ms: float, action_B: Array) -> None:
        """A pass took so long with these actions: compared with the wall time that was profiled."""
        size = len(action_B)
        if not size:
            return
        each_ms, expected_ms = wall_ms / size, float(self._profiled_ms(size)[action_B].mean())
        self.spent_ms += weight(size) * (each_ms - self.spent_ms)
        if expected_ms > 0:
            ratio = float(np.clip(each_ms / expected_ms, *CORRECTIONS))
            self.correction += weight(size) * (ratio - self.correction)
            self._lately += weight(size, LATELY) * (ratio - self._lately)
        took_R = self.cost_RJ[:, action_B].mean(axis=1) * self.corrections
        self.took_R += weight(size) * (took_R - self.took_R)

    def _profiled_ms(self, size: int) -> Array:  # (J,)
        return self._actions.cost_ms * self._actions.together(1 / size)


def weight(size: int, one: float = SMOOTH) -> float:
    """Of so many requests in running means, as if each had come alone with the weight of one."""
    return 1 - (1 - one) ** size
