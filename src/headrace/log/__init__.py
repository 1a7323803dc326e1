"""Raw data in, a columnar event log out. Adapters, one data set a file, are in ``sources``."""

from .format import Log, Manifest
from .ingest import ingest
from .raw import RawLog
from .write import write_log

__all__ = ["Log", "Manifest", "RawLog", "ingest", "write_log"]
