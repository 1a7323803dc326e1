"""Find candidates in the whole catalogue. One channel a file."""

from ._base import Channel, leave_out

__all__ = ["Channel", "leave_out"]
