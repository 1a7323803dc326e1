"""A synthetic world that browses, clicks and buys, with a known truth: tests, benchmarks, A/B."""

from .config import WorldConfig
from .presets import PRESETS
from .world import Outcomes, Simulation, World, WorldSource, simulate, simulate_file

__all__ = [
    "PRESETS",
    "Outcomes",
    "Simulation",
    "World",
    "WorldConfig",
    "WorldSource",
    "simulate",
    "simulate_file",
]
