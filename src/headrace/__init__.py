"""headrace: the whole recommendation cascade, training and serving."""

__version__ = "0.1.0"
