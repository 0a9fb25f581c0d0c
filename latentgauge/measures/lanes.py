"""Work cut into parts, each part on one thread: the same bytes however many threads there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lanes:
    """`count` threads, each of which does its torch operations alone."""

    count: int
    pool: Executor | None = None

    def each(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        ahead: int | None = None,
    ) -> Iterator[Result]:
        """work(item) for every item, in order; `ahead` of them begun, or two for each lane.

        An error ends it; what is running then is waited for when the lanes close.
        """
        ahead = 2 * self.count if ahead is None else ahead
        if self.pool is None:
            yield from map(work, items)
            return
        begun: deque[Future[Result]] = deque()
        for item in items:
            begun.append(self.pool.submit(work, item))
            if len(begun) > ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


ONE = Lanes(1)


@contextmanager
def lanes() -> Iterator[Lanes]:
    """As many lanes as torch has threads here; until it ends, torch itself uses one.

    torch cuts its own sums by the number of threads, which moves their last bits; a part that
    one thread does alone is the same part on every machine with these instructions.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(count, "lane", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield Lanes(count, pool)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(count)
