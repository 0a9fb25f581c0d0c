"""`uvicorn app.main:app`: the service's front."""

from __future__ import annotations

from fastapi import FastAPI

from app import problems
from app.dependencies import Service
from app.doors import BodyLimit, OwnOrigin
from app.routes import artifacts, health, jobs
from jobs.blobs import Blobs
from jobs.ledger import Ledger
from jobs.queue import Queue
from jobs.settings import Settings, settings
from jobs.tables import connect

DESCRIPTION = """
Post an encoder and a data set, get back how much information the latent code really carries,
with error bars, and a pass or fail for your CI.
"""


def create_app(config: Settings) -> FastAPI:
    """The web application over the parts that the settings name."""
    app = FastAPI(title="latentgauge", version="1", description=DESCRIPTION)
    app.state.service = Service(
        settings=config,
        ledger=Ledger(connect(config.database_url)),
        blobs=Blobs(config.artifacts),
        queue=Queue(config),
    )
    app.add_middleware(BodyLimit, max_upload_bytes=config.max_upload_bytes)
    app.add_middleware(
        OwnOrigin, hosts=_words(config.allowed_hosts), origins=_words(config.allowed_origins)
    )
    for part in (artifacts, jobs, health):
        app.include_router(part.router)
    problems.install(app)
    return app


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


app = create_app(settings())
