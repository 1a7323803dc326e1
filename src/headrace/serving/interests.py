"""Users' states of a memory ranker out of an interest center, as a column of requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor

from ..behavior.interest_center import InterestCenter
from ..data import Requests
from ..nn.memory import USER_STATE


class Rememberer(Protocol):
    """A ranker that scores from states."""

    def states(self, requests: Requests) -> Tensor:
        """States ``(B, Z)`` made of the requests' own sequences."""
        ...


@final
class Interests:
    """Gives requests the column ``user_state``: one key read a user in place of a long history.

    Where the center has no state that may be used (anonymous visitors, users not back-filled yet,
    requests as of a time before the user's last event), the history is run through as in training,
    and counted in ``unrolled``.
    """

    def __init__(
        self, center: InterestCenter, ranker: Rememberer, key_of: Callable[[int], int]
    ) -> None:
        """``key_of`` makes the center's key of a user's number; 0 for those whom it cannot have."""
        self._center, self._ranker, self._key_of = center, ranker, key_of
        self.unrolled: Counter[str] = Counter()

    def attach(self, requests: Requests) -> Requests:
        """The same requests with their users' states."""
        key_B = np.array([self._key_of(user) for user in requests.user.tolist()], np.int64)
        found = self._center.look_up(key_B, requests.time_ms.numpy())
        state_BZ = torch.from_numpy(found.state_BZ)
        missing = torch.from_numpy(np.flatnonzero(~found.real_B))
        if len(missing):
            state_BZ[missing] = self._ranker.states(requests.take(missing))
            self.unrolled["anonymous"] += int((key_B == 0).sum())
            self.unrolled["no state"] += len(missing) - int((key_B == 0).sum())
        return replace(requests, features={**requests.features, USER_STATE: state_BZ})
