"""Raw data in, a columnar event log out. Adapters, one data set a file, are in ``sources``."""

from .format import Log, Manifest
from .raw import RawLog
from .write import write_log

__all__ = ["Log", "Manifest", "RawLog", "write_log"]
