"""Eigenvalues of the rows' covariance: against numpy, in the encoder's units, within limits."""

from __future__ import annotations

import numpy as np
import pytest

from latentgauge.datasets import spectrum as module
from latentgauge.datasets.spectrum import row_spectrum
from latentgauge.feed import scaling
from latentgauge.options import Options


def _rows(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *shape))


@pytest.mark.parametrize("n", [2, 7, 3000])
def test_eigenvalues_are_those_of_the_covariance(n):
    x = 1e6 + _rows(n, 2, 3) * np.arange(1, 7).reshape(2, 3)
    found = row_spectrum(x, scaling(x, Options()), seed=0)
    expected = np.linalg.eigvalsh(np.cov(x.reshape(n, -1).T))[::-1]
    assert found.numpy() == pytest.approx(expected, rel=1e-9, abs=1e-7)
    assert float(found.min()) >= 0.0


def test_eigenvalues_are_in_the_units_that_the_encoder_sees():
    x = np.random.default_rng(1).integers(0, 256, size=(500, 4), dtype=np.uint8)
    plain = row_spectrum(x, scaling(x, Options()), seed=0)
    scaled = row_spectrum(x, scaling(x, Options(input_scale=255)), seed=0)
    assert scaled.numpy() == pytest.approx(plain.numpy() / 255**2, rel=1e-9)


def test_of_many_rows_some_are_taken_by_the_seed(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 100)
    x = _rows(400, 3)
    some, same, other = (row_spectrum(x, lambda b: b, seed=seed) for seed in (0, 0, 1))
    assert some.tolist() == same.tolist()
    assert some.tolist() != other.tolist()


def test_what_cannot_be_told_is_not():
    assert row_spectrum(_rows(3, module.MOST_COLUMNS + 1), lambda b: b, seed=0) is None
    assert row_spectrum(_rows(1, 3), lambda b: b, seed=0) is None
    assert row_spectrum(1e200 * _rows(10, 3), lambda b: b, seed=0) is None
    assert row_spectrum(np.ones((10, 3)), lambda b: b, seed=0).tolist() == [0.0, 0.0, 0.0]
