"""What a policy takes up from a run's ``allocation`` directory, and how it got there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import orjson
from numpy.typing import NDArray

from ..data import Ragged, Requests
from ..errors import DataError
from .actions import Actions
from .features import Describer
from .gains import Estimator, Gains
from .logged import Logged, statistics
from .past import Past, askers, so_far

Array = NDArray[Any]
FOLDER, ACTIONS, MODEL, REPLAY = "allocation", "actions.json", "model", "replay.npz"
POOL = 5_000  # cross-fitted estimates kept, for the first price


@dataclass(frozen=True)
class Model:
    """Actions, what is known of requests, and what that says of gains."""

    actions: Actions
    describe: Describer
    before: Gains  # from what is known before the work
    after: Gains  # and after pre-ranking, one chain a family
    past: Past
    pool_NJ: Array  # estimates for logged requests by models that had not seen their users
    estimator: Estimator
    version: str = ""  # of the bundle that was replayed

    @classmethod
    def fit(
        cls,
        actions: Actions,
        describe: Describer,
        logged: Logged,
        estimator: Estimator = "gbdt",
        version: str = "",
    ) -> Model:
        """Learn from a replay. Raises DataError on gains that are not finite."""
        if not len(logged):
            raise DataError("replay: no requests; replay on a longer period")
        if not np.isfinite(logged.gain_NJ).all():
            raise DataError("replay: gains that are not finite; look at the value formula")
        asker_N = askers(logged.user_N, logged.feature_NF)
        past = Past.of(asker_N, logged.gain_NJ)
        logged = logged.knowing(so_far(asker_N, logged.gain_NJ))
        size = len(actions)
        _, group_N = np.unique(logged.user_N, return_inverse=True)
        before, pool_NJ = Gains.fit(estimator, [logged.feature_NF] * size, logged.gain_NJ, group_N)
        after, _ = Gains.fit(
            estimator,
            after_features(actions, logged),
            logged.gain_NJ,
            group_N,
            actions.family,
        )
        return cls(actions, describe, before, after, past, pool_NJ[-POOL:], estimator, version)

    def known(self, x_BF: Array, user_B: Array) -> Array:  # (B, F + J)
        """All that is known beforehand, of features and who asks."""
        return np.concatenate([x_BF, self.past(askers(user_B, x_BF))], axis=1)

    def expect(self, requests: Requests) -> tuple[Array, Array]:
        """Features ``(B, F)`` of requests and estimated gains ``(B, J)``."""
        x_BF = self.describe(requests)
        return x_BF, self.before.predict(self.known(x_BF, requests.user.numpy()))

    def expect_after(self, x_BF: Array, user_B: Array, worth: Ragged) -> Array:  # (B, J)
        """Estimates once pre-ranking has told; they hold for the family that was run."""
        known_BX = self.known(x_BF, user_B)
        return self.after.predict(np.concatenate([known_BX, statistics(worth)], axis=1))

    def pool(self) -> Array:  # (N, J)
        """Estimates for logged requests in the light of what was learnt since."""
        return self.before.rescaled(self.pool_NJ)

    def corrected(self, scale_J: Array) -> Model:
        """The same, with steps so many times as large as the replay taught them.

        The first step is the level, which decides nothing and stays. After pre-ranking an action's
        step begins at the one before it in its family: it grows as the mean of all steps between.
        """
        mean_J, scale_J = self.before.means, np.append(1.0, scale_J[1:])
        was_J, is_J = np.cumsum(mean_J), np.cumsum(mean_J * scale_J)
        after_J = np.ones(len(mean_J))
        for family in np.unique(self.actions.family):
            chain = np.flatnonzero(self.actions.family == family)
            was, now = np.diff(was_J[chain]), np.diff(is_J[chain])
            after_J[chain[1:]] = np.where(was > 0, now / np.where(was > 0, was, 1.0), 1.0)
        before, after = self.before.scaled(scale_J), self.after.scaled(np.maximum(after_J, 0.0))
        return replace(self, before=before, after=after)

    def write(self, folder: Path) -> None:
        """Keep beside the actions."""
        self.actions.write(folder / ACTIONS)
        parts: dict[str, Array] = {f"before.{k}": v for k, v in self.before.arrays().items()}
        parts |= {f"after.{k}": v for k, v in self.after.arrays().items()}
        parts |= {f"past.{k}": v for k, v in self.past.arrays().items()}
        with (folder / f"{MODEL}.npz").open("wb") as file:
            np.savez(file, allow_pickle=False, pool=self.pool_NJ, **parts)
        told = {
            "estimator": self.estimator,
            "history": self.describe.history,
            "columns": self.describe.columns,
            "version": self.version,
            "plans": self.actions.keys,
        }
        (folder / f"{MODEL}.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))

    @classmethod
    def read(
        cls, folder: Path, channels: Collection[str], options: Collection[str] | None = None
    ) -> Model:
        """Take up what ``write`` left. Raises DataError, and ConfigError on other channels.

        ``options`` are the optional keys that the cascade obeys; None leaves them unchecked.
        """
        actions = Actions.read(folder / ACTIONS)
        actions.check(channels, options)
        try:
            told = orjson.loads((folder / f"{MODEL}.json").read_bytes())
            with np.load(folder / f"{MODEL}.npz", allow_pickle=False) as arrays:
                parts = dict(arrays)
            before, after = (
                Gains.from_arrays(told["estimator"], _part(parts, name))
                for name in ("before", "after")
            )
            describe = Describer(told["history"], tuple(told["columns"]))
            model = cls(
                actions,
                describe,
                before,
                after,
                Past(parts["past.asker"], parts["past.over"]),
                parts["pool"],
                told["estimator"],
                told["version"],
            )
        except OSError as error:
            remedy = "run `headrace allocate replay` first"
            raise DataError(f"{folder}: cannot be read ({error.strerror}); {remedy}") from None
        except (ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise DataError(f"{folder}: a damaged model ({error}); replay again") from None
        if told["plans"] != list(actions.keys):
            raise DataError(f"{folder}: model and actions are of different replays; replay again")
        return model


def after_features(actions: Actions, logged: Logged) -> list[Array]:
    """What is known of each request after pre-ranking, for every action ``(N, F + S)``."""
    by_family = [
        np.concatenate([logged.feature_NF, logged.statistics_NGS[:, g]], axis=1)
        for g in range(logged.statistics_NGS.shape[1])
    ]
    return [by_family[int(g)] for g in actions.family]


def _part(parts: Mapping[str, Array], name: str) -> dict[str, Array]:
    return {k.removeprefix(f"{name}."): v for k, v in parts.items() if k.startswith(f"{name}.")}
