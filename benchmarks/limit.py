"""The machine's own rate for a pass over pairs: a float64 product and one exp a pair."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import torch
from torch import Tensor

from benchmarks.clock import best

BLOCKS = [(r, c) for r in (128, 256, 512, 1024) for c in (512, 1024, 2048, 4096)]
# A block size is judged by this part of the work.
TRIAL_PAIRS = 2**25


@cache
def at_limit(m: int, n: int, d: int) -> Callable[[], None]:
    """All [m, n] pairs at the machine's rate, ready to be timed: product, and exp in place.

    log q(z|x) is quadratic in z, so a product of inner size 2 d + 1 is the least that a pass
    must do. Every block size is tried, with the threads inside each operation and with a stripe
    of blocks to each thread; the quickest on a part of the rows does the whole.
    """
    left, right = operands(m, n, d)
    part = left[: max(TRIAL_PAIRS // n, 2 * BLOCKS[-1][0])]
    ways = [partial(way, block=block) for block in BLOCKS for way in (threads_inside, threads_over)]
    quickest = min(ways, key=lambda way: best(lambda: way(part, right)))
    return lambda: quickest(left, right)


def operands(m: int, n: int, d: int) -> tuple[Tensor, Tensor]:
    """Factors whose products lie in [-2 d - 1, 0]: no exp underflows."""
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(m, 2 * d + 1, dtype=torch.float64, generator=generator)
    right = torch.rand(2 * d + 1, n, dtype=torch.float64, generator=generator)
    return left, right.neg_()


def threads_inside(left: Tensor, right: Tensor, *, block: tuple[int, int]) -> None:
    for start in range(0, len(left), block[0]):
        stripe(left, right, block, start)


def threads_over(left: Tensor, right: Tensor, *, block: tuple[int, int]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(before, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(partial(stripe, left, right, block), range(0, len(left), block[0])))
    torch.set_num_threads(before)


def stripe(left: Tensor, right: Tensor, block: tuple[int, int], start: int) -> None:
    rows = left[start : start + block[0]]
    space = left.new_empty(block)
    for j in range(0, right.shape[1], block[1]):
        columns = right[:, j : j + block[1]]
        out = space[: len(rows), : columns.shape[1]]
        torch.mm(rows, columns, out=out).exp_()
