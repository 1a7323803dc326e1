"""Log to batches: time split, negatives, labels, and features as of each sample's time."""

from .config import Negatives, SamplesConfig
from .samples import Drawn, Part, Samples

__all__ = ["Drawn", "Negatives", "Part", "Samples", "SamplesConfig"]
