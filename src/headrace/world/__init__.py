"""A synthetic world that browses, clicks and buys, with a known truth: tests, benchmarks, A/B."""

from .config import WorldConfig
from .presets import PRESETS
from .world import Outcomes, World, simulate

__all__ = ["PRESETS", "Outcomes", "World", "WorldConfig", "simulate"]
