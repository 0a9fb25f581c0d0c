"""`make bench`, or `python -m benchmarks [NAME ...]`: each benchmark's figures in one table.

Exits 1 when a goal is missed, 2 for a name that is none. Ratios and bounds, never bare seconds:
machines differ, and are shared.
"""

from __future__ import annotations

import sys

from latentgauge.memory import give_large_blocks_back
from latentgauge.threads import let_threads_sleep

let_threads_sleep()
give_large_blocks_back()

from importlib import import_module

from benchmarks.figure import header

NAMES = ("service", "coverage", "tightness", "paired", "peers", "speed", "memory")


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    print(header(), flush=True)
    met = True
    for name in names or NAMES:
        for figure in import_module(f"benchmarks.{name}").figures():
            print(figure.line(), flush=True)
            met = met and figure.met is not False
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
