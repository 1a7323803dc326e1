"""headrace: the whole recommendation cascade, training and serving."""

import os

__version__ = "0.1.0"

# PyTorch's threads spin for milliseconds after each of their operations, on the cores that our own
# kernels' threads need next. Read when torch is loaded; what the user has set stands.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
