"""How the kernels of this package are compiled, and when their compiled code is stale."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from numba import njit

#: For what Python calls: may allocate.
entry = njit(cache=True, nogil=True)

_LEAF: dict[str, Any] = {
    "_nrt": False,  # to count references of a world's fifty arrays at every call took 10x the work
    "forceinline": True,  # ... and to pass them by value a third of the rest
    "no_cfunc_wrapper": True,  # compiles sooner
}
#: For what other kernels call: allocates nothing.
leaf = njit(nogil=True, **_LEAF)

#: Numba drops cached code when the file of a function changes, but not when a file that it calls
#: into does. Entries that call across files take this as a default, which is part of their type;
#: leaves are not cached, but inside entries.
SOURCES = zlib.crc32(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py"))))
