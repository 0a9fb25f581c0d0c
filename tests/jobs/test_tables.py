from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from jobs.tables import connect


def test_sqlite_writes_ahead_and_its_folder_is_made(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'new' / 'a.db'}")
    with engine.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
    engine.dispose()
