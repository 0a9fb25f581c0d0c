"""How freed memory goes back to the system: large blocks at once, not at a heap's end."""

from __future__ import annotations

import ctypes

# glibc's mallopt(M_MMAP_THRESHOLD): blocks of this size have a mapping of their own. By default
# the threshold grows with what is freed, and small results between large temporaries then pin
# these: a survey of 60,000 x 32 held 640 MB, and holds 460.
M_MMAP_THRESHOLD, LARGE = -3, 6 * 2**20


def give_large_blocks_back(library: object = None) -> bool:
    """For a process that measures, once. False where the C library knows no such setting.

    `library` is the process's own by default.
    """
    mallopt = getattr(library or ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, LARGE))
