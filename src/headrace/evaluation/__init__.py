"""Judge every stage and the whole cascade on later requests, and say so in a report."""

from .report import read_report, write_report
from .structure import Report
from .tables import print_report

__all__ = ["Report", "print_report", "read_report", "write_report"]
