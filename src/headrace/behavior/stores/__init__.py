"""Where events that users make are kept: ``kind = "local"`` is the file ``local.py``."""
