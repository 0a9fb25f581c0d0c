"""The tables. Times are seconds since the epoch, UTC; migrations/ makes and changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("state", String(12), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lease_until", Float),
    Column("hinted_at", Float),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("stage", String(40)),
    Column("fraction", Float),
    Column("queue", String(10), nullable=False),
    Column("encoder", String(64)),
    Column("dataset", String(64)),
    Column("posterior", String(64)),
    Column("options", JSON, nullable=False),
    Column("gates", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("error", JSON),
    Index("ix_jobs_created_at_id", "created_at", "id"),
    Index("ix_jobs_state_lease_until", "state", "lease_until"),
    Index("ix_jobs_digest", "digest"),
)

reports = Table(
    "reports",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("report", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("device", String(20), nullable=False),
    Column("queue", String(10), nullable=False),
    Column("seen_at", Float, nullable=False),
)


def connect(url: str) -> Engine:
    """An engine; SQLite in WAL mode, its folder made, writers waiting for each other."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": 10})
    event.listen(engine, "do_connect", _sqlite_folder)
    event.listen(engine, "connect", _sqlite_modes)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_folder(_dialect: object, _record: object, arguments: Any, _named: object) -> None:
    Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)


def _sqlite_begin(connection: Connection) -> None:
    """A transaction that will write takes the lock at once, so that what it reads stays true."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _sqlite_modes(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own
    cursor = connection.cursor()
    for mode in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {mode}")
    cursor.close()
