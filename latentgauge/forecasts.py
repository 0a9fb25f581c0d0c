"""The report's forecast: what a linear VAE would keep, held against what was measured."""

from __future__ import annotations

import torch
from torch import Tensor

from latentgauge.measures import forecast as linear
from latentgauge.options import Options
from latentgauge.report import ActiveDimensions, Forecast, ForecastLatent


def forecast_section(
    of_rows: Tensor | None, options: Options, *, active: ActiveDimensions, d: int
) -> Forecast | None:
    """The section; None without a decoder variance, or where no spectrum is known."""
    given = options.spectrum
    spectrum = of_rows if given is None else torch.tensor(given, dtype=torch.float64)
    if options.decoder_variance is None or spectrum is None:
        return None
    beta = 1.0 if options.beta is None else options.beta
    told = linear.forecast(spectrum, options.decoder_variance, beta=beta)
    latents = [_latent(told, spectrum, j) for j in linear.largest(spectrum, d).tolist()]
    alive = [latent.index for latent in latents if latent.alive]
    return Forecast(
        decoder_variance=options.decoder_variance,
        beta=beta,
        spectrum="rows" if given is None else "option",
        above=int(told.alive.sum()),
        alive=len(alive),
        indices=alive,
        total=sum(latent.information for latent in latents),
        latents=latents,
        held_against=_held_against(len(alive), active, d),
    )


def _latent(told: linear.Forecast, spectrum: Tensor, j: int) -> ForecastLatent:
    return ForecastLatent(
        index=j,
        eigenvalue=float(spectrum[j]),
        alive=bool(told.alive[j]),
        information=float(told.information[j]),
        beta_limit=float(told.beta_limit[j]),
        variance_limit=float(told.variance_limit[j]),
    )


def _held_against(alive: int, active: ActiveDimensions, d: int) -> str:
    """Where the code stands against the yardstick, undecided dimensions counted either way."""
    least, most = active.count, active.count + active.undecided
    measured = f"{least}" if least == most else f"{least} to {most}"
    told = f"a linear VAE would keep {alive} of {d} latents; {measured} are active"
    if most < alive:
        return told + ": the data would bear more"
    if least > alive:
        return told + ": the code makes more of the data than its linear part"
    return told + ": as many as the data would bear"
