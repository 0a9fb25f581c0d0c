from __future__ import annotations

import pytest
from pydantic import ValidationError

from jobs.settings import Settings, settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTGAUGE_JOB_SECONDS", "5")
    assert Settings().job_seconds == 5


def test_a_wrong_setting_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTGAUGE_WORKER_DEVICE", "tpu")
    with pytest.raises(ValidationError, match="worker_device"):
        Settings()


def test_a_process_reads_its_settings_once() -> None:
    assert settings() is settings()


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
