"""One loop trains every model: ``fit(model, batches, Training(...))``."""

from .loop import Batches, History, fit
from .settings import Training
from .trainer import Trainer

__all__ = ["Batches", "History", "Trainer", "Training", "fit"]
