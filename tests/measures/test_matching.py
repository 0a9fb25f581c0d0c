"""Latents are found again whatever their order, sign and scale."""

from __future__ import annotations

import pytest
import torch

from latentgauge.measures.matching import matched
from tests.truth import F64, normal

Table = tuple[torch.Tensor, torch.Tensor]


def code(n: int = 200, d: int = 5, *, seed: int = 1) -> Table:
    return normal(n, d, seed=seed), normal(n, d, seed=seed + 1) - 2.0


def changed(table: Table, order: list[int], factors: list[float]) -> Table:
    """The same code with latents in another order, each multiplied by a factor."""
    mu, logvar = (x[:, order] for x in table)
    factor = torch.tensor(factors, dtype=F64)
    return mu * factor, logvar + 2.0 * factor.abs().log()


def test_order_sign_and_scale_are_found_again() -> None:
    base = code()
    found = matched(base, changed(base, [3, 0, 4, 1, 2], [1.0, -2.0, 0.5, -1.0, 3.0]))
    pairs = {pair.base: (pair.head, pair.correlation) for pair in found.pairs}
    signs = [1.0, -1.0, 1.0, 1.0, -1.0]  # of z3 z0 z4 z1 z2 in the order of the base below
    told = [pairs[j] for j in (3, 0, 4, 2, 1)]
    assert [head for head, _ in told] == [0, 1, 2, 4, 3]
    assert [value for _, value in told] == pytest.approx(signs, abs=1e-12)


def test_what_is_measured_does_not_depend_on_numbers_or_signs() -> None:
    base, head = code(), code(seed=9)
    head = base[0] + 0.3 * head[0], head[1]
    order, signs = [4, 2, 0, 1, 3], [1.0, -1.0, -1.0, 1.0, -1.0]
    found, other = matched(base, head), matched(base, changed(head, order, signs))
    for mine, theirs in zip(found.base.of(*base), other.base.of(*base), strict=True):
        assert torch.equal(mine, theirs)
    aligned = zip(found.head.of(*head), other.head.of(*changed(head, order, signs)), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in aligned)
    assert [order[p.head] for p in other.pairs] == [p.head for p in found.pairs]


def test_swapping_the_codes_swaps_what_is_measured() -> None:
    base, head = code(d=4), code(d=6, seed=5)
    found, swapped = matched(base, head), matched(head, base)
    assert [(p.base, p.head) for p in found.pairs] == [(p.head, p.base) for p in swapped.pairs]
    for mine, theirs in ((found.base, swapped.head), (found.head, swapped.base)):
        assert mine.latents == theirs.latents
        assert torch.equal(mine.signs, theirs.signs)


@pytest.mark.parametrize(("d_base", "d_head"), [(3, 5), (5, 3)])
def test_latents_without_a_partner_come_last(d_base: int, d_head: int) -> None:
    mu, logvar = code(d=5)
    base, head = ((mu[:, :d], logvar[:, :d]) for d in (d_base, d_head))
    found = matched(base, head)
    assert sorted((p.base, p.head) for p in found.pairs) == [(0, 0), (1, 1), (2, 2)]
    more = found.head if d_head > d_base else found.base
    assert sorted(more.latents[3:]) == [3, 4]


def test_constant_means_are_matched_by_width_and_have_no_correlation() -> None:
    """Two that speak by their width alone, two constant altogether, one that died."""
    mu, logvar = code(d=5)
    mu[:, :4] = torch.tensor([0.0, 1.0, 2.0, 0.3], dtype=F64)
    logvar[:, 2:4] = torch.tensor([-1.0, -3.0], dtype=F64)
    order = [2, 4, 1, 3, 0]
    dead = mu.clone(), logvar.clone()
    dead[0][:, 4], dead[1][:, 4] = 0.0, 0.0
    for head, correlation in (((mu, logvar), 1.0), (dead, None)):
        found = matched((mu, logvar), tuple(x[:, order] for x in head))  # type: ignore[arg-type]
        pairs = {p.base: (order[p.head], p.correlation) for p in found.pairs}
        assert {j: head for j, (head, _) in pairs.items()} == {j: j for j in range(5)}
        assert [pairs[j][1] for j in range(4)] == [None] * 4
        assert pairs[4][1] == (None if correlation is None else pytest.approx(correlation))


def test_copies_of_a_latent_are_told_apart_by_their_width() -> None:
    mu = normal(100, 1, seed=3).expand(-1, 3).clone()
    logvar = torch.tensor([-1.0, -2.0, -3.0], dtype=F64).expand(100, -1).clone()
    found = matched((mu, logvar), (mu[:, [1, 2, 0]], logvar[:, [1, 2, 0]]))
    assert sorted((p.base, p.head) for p in found.pairs) == [(0, 2), (1, 0), (2, 1)]


def test_a_single_row_is_matched_without_any_correlation() -> None:
    found = matched(code(n=1, d=3), code(n=1, d=3, seed=7))
    assert sorted(p.base for p in found.pairs) == [0, 1, 2]
    assert all(p.correlation is None for p in found.pairs)
