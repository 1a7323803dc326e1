"""A connection to Redis as a store needs it: deadlines, a rest after failures, errors of ours."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, final

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...errors import ConfigError, DataError
from ...log import Log
from ..base import StoreError

FORMAT = 1
Command = tuple[Any, ...]
logger = logging.getLogger(__name__)


@final
class Server:
    """Where keys with one prefix are, which hold events of one log."""

    def __init__(
        self,
        url: str,
        prefix: str,
        log: Log,
        *,
        deadline_ms: int,
        write_deadline_ms: int,
        retry_ms: int,
    ) -> None:
        """Connect when first needed. Raises ConfigError on an URL that is none."""
        self._prefix, self._sources = prefix, list(log.manifest.sources)
        self._readers = _connect(url, deadline_ms)
        self._writers = _connect(url, write_deadline_ms)
        self._retry_s = retry_ms / 1000
        self._met, self._resting_until = False, 0.0
        self.degraded: Counter[str] = Counter()

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        known = self._readers.connection_pool.connection_kwargs
        return f"redis {known.get('host') or known.get('path')}:{known.get('port', '')}"

    def name(self, what: str) -> str:
        """The key of something that is no user's."""
        return f"{self._prefix}:{what}"

    def name_of(self, user: int, what: str) -> str:
        """The key of something of a user's, who is its hash tag."""
        return f"{self._prefix}:{{{user:x}}}:{what}"

    def look(self, commands: Sequence[Command]) -> list[Any] | None:
        """One round trip; None, counted, where there is no answer in time."""
        if time.monotonic() < self._resting_until:
            self.degraded["resting"] += 1
            return None
        try:
            self._meet(self._readers)
            return _trip(self._readers, commands)
        except redis.RedisError as error:
            reason = "timeout" if isinstance(error, redis.TimeoutError) else "connection"
            self.degraded[reason] += 1
            self._resting_until = time.monotonic() + self._retry_s
            logger.warning("%s: %s; the log answers alone", self.place, error)
            return None

    def ask(self, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
        """One round trip, with the patience of a writer; ``together``, all of it or nothing.

        Raises StoreError where there is no answer.
        """
        try:
            self._meet(self._writers)
            return _trip(self._writers, commands, together=together)
        except redis.RedisError as error:
            raise StoreError(
                f"{self.place}: does not answer ({error}); if this was to be kept, send it again: "
                "what was kept already counts once"
            ) from None

    def cut(self, name: str, cut: Callable[[bytes], bytes]) -> None:
        """Set a string to ``cut`` of it, unless somebody else writes it at that moment."""
        try:
            with self._writers.pipeline() as pipe:
                pipe.watch(name)
                found: Any = pipe.get(name)
                pipe.multi()
                pipe.set(name, cut(found or b""))
                pipe.execute()
        except redis.RedisError as error:
            logger.info("%s: %s stays long until the next append (%s)", self.place, name, error)

    def take_over(self, log: Log) -> None:
        """Say that the events are over this log from now on."""
        self._sources = list(log.manifest.sources)
        self.ask([("SET", self.name("meta"), self._meta())])

    def close(self) -> None:
        """Close the connections."""
        self._readers.close()
        self._writers.close()

    def _meta(self) -> bytes:
        return orjson.dumps({"format": FORMAT, "sources": self._sources})

    def _meet(self, client: redis.Redis) -> None:
        """Once: make sure that what is there is of this log's kind."""
        if self._met:
            return
        name = self.name("meta")
        found = orjson.loads(_trip(client, [("SET", name, self._meta(), "NX"), ("GET", name)])[1])
        if found["format"] != FORMAT:
            raise DataError(
                f"{self.place}: {name} is in store format {found['format']}, this program has "
                f"{FORMAT}; choose another serving.store.prefix"
            )
        theirs, ours = found["sources"], self._sources
        shared = min(len(theirs), len(ours))  # servers may have grown logs, or not yet
        if theirs[:shared] != ours[:shared]:
            raise DataError(
                f"{self.place}: {name} holds events of another log; choose another "
                "serving.store.prefix, or remove its keys"
            )
        self._met = True


def _connect(url: str, deadline_ms: int) -> redis.Redis:
    seconds = deadline_ms / 1000
    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),  # one deadline, not four of them
        )
    except ValueError as error:
        raise ConfigError(f"serving.store.url: {error}") from None


def _trip(client: redis.Redis, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
    with client.pipeline(transaction=together) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute()
