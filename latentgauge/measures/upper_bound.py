"""An upper bound on the population's I(X;Z): E[log q(z|x) - log r(z)] for a density r.

Barber & Agakov 2003; the rate of Alemi et al. 2018, https://arxiv.org/abs/1711.00464. It holds
in expectation for any r chosen without the row's unit; the closer r is to q(z), the tighter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentgauge.measures.decomposition import LOG_2PI, log_normal
from latentgauge.measures.gaussian import Gaussian, shrunk_covariance
from latentgauge.measures.joint import Draws, JointSums, Standardised
from latentgauge.measures.pairs import Groups, LogKernel, Tick, log_sums, part, silent

# Bandwidths of the kernel mixtures, in standard deviations of the means.
BANDWIDTHS = (0.1, 0.2, 0.4, 0.7)


@dataclass(frozen=True)
class Components:
    """log r_k(z_i) [M, K] of densities that have not seen the unit of i, with their names.

    `kernels` [M, H] are log sums over the kernel mixtures' centres, `kernels_same` those over
    centres of the class of i alone; `control` [M] is log g(z_i) - E[log g(z)|x_i] of a
    Gaussian g, of mean 0.
    """

    names: tuple[str, ...]
    log_r: Tensor
    kernels: Tensor
    kernels_same: Tensor
    control: Tensor


def components(
    table: Standardised,
    draws: Draws,
    sums: JointSums,
    *,
    units: Tensor,
    folds: Tensor,
    classes: Tensor | None = None,
    device: torch.device | str = "cpu",
    tick: Tick = silent,
) -> Components:
    """The densities that r may be mixed from.

    The other units' posteriors, the prior, a Gaussian with shrunk covariance and one with
    independent latents, and kernel mixtures on the means: all but the first two learnt on the
    folds that do not hold the row.
    """
    m = len(draws.rows)
    gaussians = draws.z.new_zeros(m, 2)
    kernels = draws.z.new_full((m, len(BANDWIDTHS)), -math.inf)
    same = kernels.clone()
    count = int(folds.max()) + 1
    for fold in range(count if count > 1 else 0):
        mine, rest = folds[draws.rows] == fold, folds != fold
        other = _Part.of(table, draws, mine, rest, classes)
        full = Gaussian.of(other.mean, other.covariance + torch.diag(other.noise))
        gaussians[mine, 0] = full.log_density(other.z)
        variance = other.covariance.diagonal() + other.noise
        gaussians[mine, 1] = log_normal(other.z, other.mean, variance).sum(dim=1)
        for h, bandwidth in enumerate(BANDWIDTHS):
            done = fold * len(BANDWIDTHS) + h
            step = part(tick, done, count * len(BANDWIDTHS))
            both = other.kernel_mixture(bandwidth, gaussians[mine, 0], device=device, tick=step)
            kernels[mine, h], same[mine, h] = both[:, 0], both[:, 1]
    posteriors = sums.others[:, 0] - _others(units)[draws.rows].log()
    prior = table.log_prior(draws.z)
    learnt = torch.cat([gaussians, kernels], dim=1) if count > 1 else kernels[:, :0]
    named = ("posteriors", "prior", "gaussian", "diagonal")
    names = named + tuple(f"kernel {h}" for h in BANDWIDTHS)
    log_r = torch.cat([posteriors[:, None], prior[:, None], learnt], dim=1)
    return Components(names[: log_r.shape[1]], log_r, kernels, same, _control(table, draws))


def _others(units: Tensor) -> Tensor:
    """Rows outside the unit of each row, [N]."""
    return (len(units) - torch.bincount(units)[units]).clamp(min=1).double()


def _control(table: Standardised, draws: Draws) -> Tensor:
    """Of the whole table's Gaussian: it knows no noise, so the mean given every x is still 0."""
    noise, covariance = table.logvar.exp().mean(dim=0), shrunk_covariance(table.mu)
    gaussian = Gaussian.of(table.mu.mean(dim=0), covariance + torch.diag(noise))
    sigma = (0.5 * table.logvar[draws.rows]).exp()
    return gaussian.conditional_control(table.mu[draws.rows], draws.noise * sigma, sigma.square())


@dataclass(frozen=True)
class _Part:
    """The draws of one fold, and what the other folds say of the code."""

    z: Tensor
    centres: Tensor
    mean: Tensor
    covariance: Tensor
    noise: Tensor
    groups: Groups
    lam: Tensor
    u: Tensor

    @classmethod
    def of(
        cls,
        table: Standardised,
        draws: Draws,
        mine: Tensor,
        rest: Tensor,
        classes: Tensor | None,
    ) -> _Part:
        centres = rest.nonzero().flatten()
        groups = Groups.single(int(mine.sum()), len(centres))
        if classes is not None:
            centres = centres[classes[centres].argsort(stable=True)]
            count = int(classes.max()) + 1
            groups = Groups(classes[draws.rows[mine]], classes[centres], count)
        mu = table.mu[centres]
        noise = table.logvar[centres].exp().mean(dim=0)
        covariance = shrunk_covariance(mu)
        s = noise.sqrt()
        lam, u = torch.linalg.eigh(covariance / s[:, None] / s[None, :])
        return cls(draws.z[mine], mu, mu.mean(dim=0), covariance, noise, groups, lam, u)

    def kernel_mixture(
        self, h: float, reference: Tensor, *, device: torch.device | str, tick: Tick
    ) -> Tensor:
        """[m, 2]: log of the mean over centres c of N(z; a c + (1 - a) mean, h^2 C + S).

        a = sqrt(1 - h^2) keeps the mixture's covariance C + S whatever h (West 1993). The
        second column counts only centres of the row's own class.
        """
        y, x, log_scale = self._whitened(h)
        left = torch.cat(
            [y, torch.ones_like(y[:, :1]), -0.5 * y.square().sum(dim=1, keepdim=True)], dim=1
        )
        square = -0.5 * x.square().sum(dim=1)[None]
        right = torch.cat([x.T, square, torch.ones_like(square)])
        none = left.new_zeros(len(left), 0), right.new_zeros(0, len(x)), right.new_zeros(0, len(x))
        kernel = LogKernel(*(x.to(device) for x in (left, right, *none)))
        constant = log_scale + math.log(len(x))
        sums = log_sums(kernel, (reference + constant).to(device), self.groups, tick=tick)
        return sums.cpu() - constant

    def _whitened(self, h: float) -> tuple[Tensor, Tensor, float]:
        """Draws and pulled centres in units of the kernel, and log of its normalisation."""
        s = self.noise.sqrt()
        v = h * h * self.lam.clamp(min=0.0) + 1.0
        y = ((self.z - self.mean) / s) @ self.u / v.sqrt()
        x = math.sqrt(1.0 - h * h) * (((self.centres - self.mean) / s) @ self.u) / v.sqrt()
        log_scale = float(0.5 * v.log().sum() + s.log().sum()) + 0.5 * len(s) * LOG_2PI
        return y, x, log_scale
