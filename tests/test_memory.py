"""A process that asked for it gives large blocks back although small ones were made after them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from latentgauge.memory import LARGE, M_MMAP_THRESHOLD, give_large_blocks_back

PROBE = """
import sys
from latentgauge.memory import give_large_blocks_back
if sys.argv[1] == "back":
    give_large_blocks_back()
import torch
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
kept, start = [], resident()
for _ in range(12):
    large = torch.ones(1_000_000, dtype=torch.float64)
    kept.append(large[::100].clone())
    del large
print(resident() - start)
"""


def _grown(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, how], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is that of glibc")
def test_large_blocks_are_given_back():
    # The results kept are 80 kB each; two of the 8 MB blocks may be alive at once.
    assert _grown("back") < 20e6


def test_a_c_library_without_the_setting_is_left_alone():
    assert give_large_blocks_back(object()) is False


def test_the_setting_is_asked_for_by_number_and_size():
    asked = []

    class Library:
        def mallopt(self, what: int, size: int) -> int:
            asked.append((what, size))
            return 1

    assert give_large_blocks_back(Library()) is True
    assert asked == [(M_MMAP_THRESHOLD, LARGE)]
