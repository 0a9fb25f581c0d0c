"""The description of the service that is served is true of it."""

from __future__ import annotations

import pytest

from latentgauge.errors import BY_CODE
from tests.conftest import Running


@pytest.fixture(scope="module")
def described(service: Running) -> dict:  # type: ignore[type-arg]
    with service.client() as http:
        answer = http.get("/openapi.json")
    assert answer.status_code == 200
    found: dict = answer.json()  # type: ignore[type-arg]
    return found


def test_it_is_openapi_3_1(described: dict) -> None:  # type: ignore[type-arg]
    assert described["openapi"].startswith("3.1")


def test_every_code_is_in_it(described: dict) -> None:  # type: ignore[type-arg]
    problem = described["components"]["schemas"]["Problem"]
    assert problem["properties"]["code"]["enum"] == list(BY_CODE)


def test_every_operation_says_that_its_errors_are_problems(described: dict) -> None:  # type: ignore[type-arg]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/v1/"):
                content = operation["responses"]["default"]["content"]
                assert list(content) == ["application/problem+json"], (method, path)


def test_the_service_is_alive_and_ready_and_names_its_devices(service: Running) -> None:
    with service.client() as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        ready = http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["workers"] == {"cpu": 1}
    assert ready.json()["sandbox"] == "off"
