"""User Interest Center: each user's state of a memory model, kept up to date event by event.

MIMN's serving half (Pi et al., KDD 2019, arXiv:1905.09248, section 4). The event path makes one
step of constant cost an event; the request path reads one key and no history. A state is a function
of the encoder that made it, so states lie under (encoder version, user).

Events of a user carry a sequence number that ascends, as the offset in an event stream does. A step
is made only if its number is beyond the stored one (compare-and-set), so that what is delivered
twice, or replayed after a crash or a roll-back, changes nothing. An event that comes after a later
one is left out; the next back-fill, which replays the event store, knows it.

A new encoder is rolled out beside the old one: open the center with both, append as ever (both are
written), replay histories into the new one with ``backfill``, ``activate`` it, serve it, ``retire``
the old one. While a version is being filled, an event of a user who has no state there yet leaves a
hole: the number that a replay must reach, so that none falls between replay and live events.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final

import numpy as np

from ..errors import DataError, suggest
from .base import Array, StoreError
from .interest_states import NEVER, Kept, States, key, pack

SNAPSHOTS = "snapshots"


class Encoder(Protocol):
    """What makes states: a trained model, frozen."""

    @property
    def version(self) -> str:
        """Names everything that a state depends on."""
        ...

    def start(self) -> Array:
        """The state of a user without events, ``(Z,) float32``."""
        ...

    def advance(self, state_BZ: Array, item_E: Array, offsets: Array) -> Array:
        """States after each row's events (items by row of the catalogue), ``(B, Z) float32``."""
        ...


class Step(NamedTuple):
    """An event, as the center takes it."""

    user: int  # key, as ``intake.key_of`` makes it of a raw id
    seq: int  # ascends along a user's events
    item: int
    time_ms: int


class Applied(NamedTuple):
    """What became of some events in one version."""

    applied: int
    repeated: int  # not beyond the number that the state has
    missed: int  # of users whom the version does not have yet; a back-fill must bring them


@dataclass(frozen=True, slots=True)
class Found:
    """States of some users. Where there is none that may be used, row and ``real_B`` are 0."""

    state_BZ: Array  # (B, Z) float32
    seq_B: Array  # (B,) int64, of the last event in each; the smallest number before any
    real_B: Array  # (B,) bool


@final
class InterestCenter:
    """One writer, many readers in any process; a write is one transaction for all versions."""

    def __init__(
        self,
        path: Path,
        encoders: Sequence[Encoder],
        *,
        writable: bool = True,
        map_mb: int = 65_536,
    ) -> None:
        """Open or create the center; the first encoder serves, all are written.

        A version that the center does not have yet begins to be filled. Raises DataError on what is
        no interest center, when another process writes it, and for a reader when it has no states
        of the serving encoder.
        """
        self._path, self._encoders = path, {e.version: e for e in encoders}
        self._serving = encoders[0].version
        self._start = {version: e.start() for version, e in self._encoders.items()}
        self._lock = threading.Lock()
        env = States.open(path, map_mb << 20, writable=writable)
        if env is None:
            raise DataError(f"{path}: no interest center here; fill one first")
        self._env = env
        try:
            self._greet()
        except BaseException:
            self.close()
            raise

    @property
    def versions(self) -> Mapping[str, bool]:
        """Versions that have states, and whether each is complete."""
        with self._env.read() as txn:
            return self._env.versions(txn)

    def look_up(self, user_B: Array, before_B: Array) -> Found:
        """States of the serving encoder, as of times: one key read a user.

        There is none for key 0, for a state that knows events of that time or later, and, while the
        version is being filled, for users who were not replayed yet. Once it is complete, a user
        whom it does not have is one without events.
        """
        start_Z = self._start[self._serving]
        state_BZ = np.zeros((len(user_B), len(start_Z)), np.float32)
        seq_B, real_B = np.full(len(user_B), NEVER), np.zeros(len(user_B), bool)
        with self._env.read() as txn:  # as of one moment: the last of a fill may come in between
            kept_B = self._env.kept(txn, self._serving, user_B.tolist())
            complete = None in kept_B and self._env.versions(txn).get(self._serving, False)
        for b, kept in enumerate(kept_B):
            if kept is None:
                real_B[b] = complete and user_B[b] != 0
                state_BZ[b] = start_Z * real_B[b]
            elif kept.state_Z is not None and kept.last_ms < before_B[b]:
                state_BZ[b], seq_B[b], real_B[b] = kept.state_Z, kept.seq, True
        return Found(state_BZ, seq_B, real_B)

    def append(self, steps: Sequence[Step]) -> Mapping[str, Applied]:
        """Make a step an event, in every version; durable when this returns.

        Raises StoreError when it cannot be written; then nothing of it is kept.
        """
        with self._lock:
            told: dict[str, Applied] = {}
            written: list[tuple[bytes, bytes]] = []
            for version in self._encoders:
                told[version], some = self._advance(version, steps)
                written += some
            self._put(written)
        return told

    def backfill(
        self,
        version: str,
        user_U: Array,
        seq_U: Array,
        item_E: Array,
        time_E: Array,
        offsets: Array,
    ) -> Array:
        """Replay whole histories, each up to its number; what knows more already stays.

        Events of user u are ``offsets[u]:offsets[u + 1]``, oldest first. Returns the keys of users
        of whom later events have come meanwhile: read their histories again and replay them.
        """
        encoder = self._encoder(version)
        start_UZ = np.repeat(self._start[version][None], len(user_U), axis=0)
        state_UZ = encoder.advance(start_UZ, item_E, offsets)
        again: list[int] = []
        written: list[tuple[bytes, bytes]] = []
        with self._lock:
            kept_U = self._read(version, user_U.tolist())
            for u, (user, seq) in enumerate(zip(user_U.tolist(), seq_U.tolist(), strict=True)):
                kept, times = kept_U[u], time_E[offsets[u] : offsets[u + 1]]
                if kept is None or kept.seq < seq or (kept.seq == seq and kept.state_Z is None):
                    last_ms = int(times.max(initial=NEVER))
                    written.append((key(version, user), pack(seq, last_ms, state_UZ[u])))
                elif kept.state_Z is None:
                    again.append(user)
            self._put(written)
        return np.array(again, np.int64)

    def activate(self, version: str) -> None:
        """Declare a version complete. Raises DataError while users wait for a replay."""
        self._encoder(version)
        with self._lock:
            holes = len(self.holes(version))
            if holes:
                raise DataError(
                    f"{self._path}: {holes} users of version {version} wait for their histories; "
                    "back-fill them first"
                )
            self._note(version, complete=True)

    def holes(self, version: str) -> Array:
        """Keys of users of whom events came before their histories were replayed."""
        with self._env.read() as txn:
            return np.array(self._env.holes(txn, version), np.int64)

    def retire(self, version: str) -> None:
        """Forget a version. Raises DataError on the serving one and on one that is not there."""
        self._must_have(version)
        if version == self._serving:
            raise DataError(f"{self._path}: version {version} serves; serve another one first")

        with self._lock:
            self._encoders.pop(version, None)
            self._write(lambda txn: self._env.drop(txn, version))

    def snapshot(self, name: str, keep: int = 7) -> None:
        """Copy all states under a name, such as the day; of all names the last ``keep`` stay.

        Reads and appends go on meanwhile. Raises DataError on a name that is taken or no file's,
        StoreError when it cannot be written.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise DataError(f"snapshot {name!r}: letters, digits, '.', '_' and '-' make a name")
        folder = self._path / SNAPSHOTS
        if name in self.snapshots():
            raise DataError(f"{folder / name}: exists already; choose another name")
        draft = folder / f".{name}"
        shutil.rmtree(draft, ignore_errors=True)  # of one that was killed
        try:
            self._env.copy(draft)
        except StoreError:
            shutil.rmtree(draft, ignore_errors=True)  # room is what is wanted now
            raise
        draft.rename(folder / name)
        for old in self.snapshots()[:-keep]:
            shutil.rmtree(folder / old)

    def snapshots(self) -> list[str]:
        """Names of the snapshots, in order."""
        found = (self._path / SNAPSHOTS).glob("[!.]*")
        return sorted(path.name for path in found)

    def roll_back(self, name: str) -> None:
        """Be as at a snapshot, in one transaction; then replay what of the events since is sound.

        Raises DataError where there is no such snapshot.
        """
        if name not in self.snapshots():
            known = suggest(name, self.snapshots())
            raise DataError(f"{self._path}: no snapshot {name!r}; {known}")
        old = States(self._path / SNAPSHOTS / name, 0, writable=False)
        try:
            with self._lock, old.read() as then:
                versions = dict.fromkeys(self._encoders, False) | old.versions(then)

                def replace(txn: Any) -> None:
                    self._env.replace(txn, then, old)
                    self._env.put(txn, "versions", versions)

                self._write(replace)
        finally:
            old.close()

    def close(self) -> None:
        """Close the files and let another writer in."""
        self._env.close()

    def _greet(self) -> None:
        """Note versions that are new here; a reader needs the serving one."""
        known = self.versions
        if self._env.writable:
            for version in self._encoders.keys() - known.keys():
                self._note(version, complete=False)
        else:
            self._must_have(self._serving)

    def _must_have(self, version: str) -> None:
        if version not in self.versions:
            there = ", ".join(self.versions) or "none"
            raise DataError(
                f"{self._path}: no states of encoder version {version}, only of {there}; back-fill "
                "it, or serve the encoder that they are of"
            )

    def _encoder(self, version: str) -> Encoder:
        if version not in self._encoders:
            raise DataError(
                f"{self._path}: opened without encoder version {version}; "
                f"{suggest(version, self._encoders)}"
            )
        return self._encoders[version]

    def _read(self, version: str, users: Iterable[int]) -> list[Kept | None]:
        with self._env.read() as txn:
            return self._env.kept(txn, version, users)

    def _advance(
        self, version: str, steps: Sequence[Step]
    ) -> tuple[Applied, list[tuple[bytes, bytes]]]:
        """What some events make of one version's states."""
        complete = self.versions[version]
        fresh: dict[int, dict[int, Step]] = {}
        for step in sorted(steps, key=lambda step: step.seq):
            fresh.setdefault(step.user, {}).setdefault(step.seq, step)
        written: list[tuple[bytes, bytes]] = []
        rows: list[tuple[int, Kept, list[Step]]] = []
        missed = applied = 0
        nobody = Kept(NEVER, NEVER, self._start[version] if complete else None)
        for user, kept in zip(fresh, self._read(version, fresh), strict=True):
            kept = kept or nobody
            new = [step for seq, step in fresh[user].items() if seq > kept.seq]
            if new and kept.state_Z is None:
                missed += len(new)
                written.append((key(version, user), pack(new[-1].seq, NEVER, None)))
            elif new:
                applied += len(new)
                rows.append((user, kept, new))
        written += self._run(version, rows)
        return Applied(applied, len(steps) - applied - missed, missed), written

    def _run(
        self, version: str, rows: Sequence[tuple[int, Kept, list[Step]]]
    ) -> list[tuple[bytes, bytes]]:
        """Make the steps of some users' new events."""
        if not rows:
            return []
        offsets = np.cumsum([0, *(len(new) for _, _, new in rows)]).astype(np.int64)
        item_E = np.array([step.item for _, _, new in rows for step in new], np.int64)
        before_BZ = np.stack([kept.state_Z for _, kept, _ in rows if kept.state_Z is not None])
        state_BZ = self._encoders[version].advance(before_BZ, item_E, offsets)
        return [
            (
                key(version, user),
                pack(new[-1].seq, max(kept.last_ms, *(s.time_ms for s in new)), state_Z),
            )
            for (user, kept, new), state_Z in zip(rows, state_BZ, strict=True)
        ]

    def _put(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        if pairs:
            self._write(lambda txn: self._env.put_states(txn, pairs))

    def _note(self, version: str, *, complete: bool) -> None:
        def note(txn: Any) -> None:
            self._env.put(txn, "versions", self._env.versions(txn) | {version: complete})

        self._write(note)

    def _write(self, work: Any) -> None:
        if not self._env.writable:
            raise StoreError(f"{self._path}: open for reading only")
        self._env.write(work)
