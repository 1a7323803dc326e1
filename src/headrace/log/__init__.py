"""Raw data in, a columnar event log out. Adapters, one data set a file, are in ``sources``."""

from .format import Log, Manifest
from .write import RawLog, write_log

__all__ = ["Log", "Manifest", "RawLog", "write_log"]
