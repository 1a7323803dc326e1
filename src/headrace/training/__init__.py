"""One loop trains every model: ``fit(model, batches, Training(...))``."""

from .loop import Batches, History, fit
from .settings import Training

__all__ = ["Batches", "History", "Training", "fit"]
