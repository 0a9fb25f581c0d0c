"""How much information a VAE's latent code really carries, with error bars."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentgauge.client import Client
    from latentgauge.report import Report

__all__ = ["Client", "Report", "__version__"]

__version__ = "0.1.0"

_HOMES = {"Client": "latentgauge.client", "Report": "latentgauge.report"}


if not TYPE_CHECKING:  # where it would hide a misspelt name from the type checker

    def __getattr__(name: str) -> object:
        """What the package offers, loaded when it is first asked for."""
        if name not in _HOMES:
            raise AttributeError(f"module 'latentgauge' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)
