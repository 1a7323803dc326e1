"""A synthetic platform with a known truth in the place of raw files, see ``headrace.world``."""

from __future__ import annotations

from typing import Literal, final

from ...config import Config as Settings
from ...world.config import WorldConfig
from ...world.world import WorldSource


@final
class World:
    """Simulates; a preset and what differs from it stand under ``[source.world]``."""

    class Config(Settings):
        """Which world."""

        kind: Literal["world"] = "world"
        world: WorldConfig = WorldConfig()
        """The world, as in the files of `headrace simulate`."""

        def build(self) -> WorldSource:
            """Make the source."""
            return WorldSource(self.world)
