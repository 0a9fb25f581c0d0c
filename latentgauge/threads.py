"""How the threads of a numeric library wait: asleep, not spinning."""

from __future__ import annotations

import os

# Read by GNU's and Intel's OpenMP when torch is loaded. Threads that spin at every barrier turn
# 2 s into 45 s on cores that are shared with other work, and win nothing on idle ones.
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


def let_threads_sleep() -> None:
    """Call before torch is imported; what the user has set stays."""
    for name, value in PATIENT.items():
        os.environ.setdefault(name, value)
