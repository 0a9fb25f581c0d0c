"""What an operator sets: environment variables LATENTGAUGE_*."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LATENTGAUGE_", frozen=True, extra="ignore")

    database_url: str = Field(
        default="sqlite:///data/latentgauge.db",
        description="SQLAlchemy URL: sqlite:///FILE, or postgresql+psycopg://USER:PASSWORD@HOST/DB.",
    )
    broker_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="Redis or Valkey: redis://:PASSWORD@HOST:PORT/DB, or "
        "redis+socket://:PASSWORD@/FILE.",
    )
    artifacts: Path = Field(
        default=Path("data/artifacts"), description="Folder of uploaded bytes, shared by all."
    )
    max_upload_bytes: int = Field(
        default=1 << 30, gt=0, description="Largest body of an upload; beyond it 413."
    )
    max_unpacked_bytes: int = Field(
        default=4 << 30, gt=0, description="Largest data set when unpacked."
    )
    max_rows: int = Field(default=5_000_000, gt=0, description="Most rows of a data set.")
    worker_device: Literal["cpu", "cuda"] = Field(
        default="cpu", description="Device of this worker; cuda serves the queue gpu."
    )
    encoding_seconds: float = Field(
        default=60, gt=0, description="Wall time of one child process (parsing or encoding)."
    )
    encoding_memory_bytes: int = Field(
        default=4 << 30, gt=0, description="Memory of one child process beyond its libraries."
    )
    job_seconds: float = Field(default=600, gt=0, description="Wall time of a whole job.")
    lease_seconds: float = Field(
        default=15, gt=0, description="How long a silent worker keeps its job."
    )
    recovery_seconds: float = Field(
        default=1, gt=0, description="Period of the loop that renews leases and re-sends hints."
    )
    stalled_seconds: float = Field(
        default=60,
        gt=0,
        description="A free worker exits, to be started anew, when jobs wait this long unclaimed.",
    )
    max_queued: int = Field(
        default=1000, gt=0, description="Jobs that may wait; beyond it 503 with Retry-After."
    )
    allowed_hosts: str = Field(
        default="127.0.0.1,localhost,::1",
        description="Comma-separated Host names that the web process answers to; * for any.",
    )
    allowed_origins: str = Field(
        default="", description="Comma-separated web origins that may post; others are refused."
    )


@cache
def settings() -> Settings:
    """This process's settings, read once."""
    return Settings()
