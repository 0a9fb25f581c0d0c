"""The main road, as a newcomer walks it: post, wait, read, decide."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

from latentgauge.report import Report
from tests.conftest import Running
from tests.models import D, Linear, npz, rows, scripted
from tests.truth import LinearGaussian

N = 400


@pytest.fixture(scope="module")
def encoder() -> bytes:
    return scripted(Linear())


@pytest.fixture(scope="module")
def data() -> bytes:
    x = rows(N)
    return npz(x=x, y=(x[:, 0] > 0).astype(int))


def test_an_encoder_and_a_data_set_become_a_report(
    service: Running, encoder: bytes, data: bytes
) -> None:
    with service.client() as http:
        # 1. Bytes first, each under its own sha256. Known bytes need not be sent again.
        digests = {}
        for name, content in (("encoder", encoder), ("dataset", data)):
            digests[name] = hashlib.sha256(content).hexdigest()
            address = f"/v1/artifacts/{digests[name]}"
            assert http.head(address).status_code == 404
            assert http.put(address, content=content).status_code == 201
            assert http.head(address).status_code == 200
            assert http.put(address, content=content).status_code == 200

        # 2. A job names them, with what is required of the report.
        gates = ["mutual_information > 0.5", "collapse.verdict != full", "n == 400"]
        posted = http.post("/v1/jobs", json={**digests, "gates": gates, "tags": {"branch": "main"}})
        assert posted.status_code == 202
        assert posted.headers["retry-after"] == "1"
        address = posted.headers["location"]
        assert posted.json()["state"] == "queued"

        # 3. Long-poll until it has ended.
        job = http.get(address, params={"wait": 60}).json()
        assert job["state"] == "succeeded", job["error"]
        assert [gate["outcome"] for gate in job["verdict"]["gates"]] == ["pass"] * 3
        assert job["verdict"]["outcome"] == "pass"

        # 4. The report is the schema, and its interval holds the truth.
        answer = http.get(f"{address}/report")
        assert answer.headers["content-type"] == "application/json"
        report = Report.model_validate_json(answer.text)
        variance = torch.full((D,), -2.0).double().exp()
        truth = LinearGaussian(Linear().weight.detach().double().T, variance).information
        interval = report.mutual_information
        assert interval.lower is not None
        assert interval.upper is not None
        assert interval.lower <= truth <= interval.upper
        assert report.inputs.dataset is not None
        assert report.inputs.dataset.sha256 == digests["dataset"]
        assert report.labels is not None

        # 5. The same again costs one look-up.
        again = http.post("/v1/jobs", json={**digests, "gates": gates, "tags": {"branch": "main"}})
        assert again.status_code == 200
        assert again.json()["id"] == job["id"]

        # 6. Other gates: a new job on the report that is there, at once.
        stricter = http.post("/v1/jobs", json={**digests, "gates": ["mutual_information >= 50"]})
        assert stricter.status_code == 202
        assert stricter.json()["state"] == "succeeded"
        assert stricter.json()["verdict"]["outcome"] == "fail"

        # 7. It is in the list, newest first, and found by its tag.
        listed = http.get("/v1/jobs", params={"tag.branch": "main", "limit": 1}).json()
        assert [entry["id"] for entry in listed["jobs"]] == [job["id"]]

        # 8. Deleting the jobs takes the report and the bytes along.
        assert http.delete(address).status_code == 204
        assert http.get(address).status_code == 404
        assert http.head(f"/v1/artifacts/{digests['encoder']}").status_code == 200
        assert http.delete(stricter.headers["location"]).status_code == 204
        assert http.head(f"/v1/artifacts/{digests['encoder']}").status_code == 404


def test_curl_posts_both_files_in_one_form(service: Running, encoder: bytes, data: bytes) -> None:
    with service.client() as http:
        posted = http.post(
            "/v1/jobs",
            files={"encoder": ("any.name", encoder), "dataset": ("data", data)},
            data={
                "options": json.dumps({"seed": 3}),
                "gates": json.dumps(["kl >= 0"]),
                "tags": json.dumps({"by": "curl"}),
            },
        )
        assert posted.status_code == 202, posted.text
        job = http.get(posted.headers["location"], params={"wait": 60}).json()
        assert job["verdict"]["outcome"] == "pass"
        assert job["options"]["seed"] == 3
        assert job["tags"] == {"by": "curl"}


def test_a_posterior_table_needs_no_encoder(service: Running) -> None:
    rng = np.random.default_rng(0)
    table = npz(mu=rng.normal(size=(N, 2)), sigma=np.full((N, 2), 0.1))
    with service.client() as http:
        posted = http.post("/v1/jobs", files={"posterior": table})
        job = http.get(posted.headers["location"], params={"wait": 60}).json()
        assert job["state"] == "succeeded", job["error"]
        report = Report.model_validate_json(http.get(f"/v1/jobs/{job['id']}/report").text)
    truth = LinearGaussian(torch.eye(2).double(), torch.full((2,), 0.01).double()).information
    assert report.mutual_information.lower is not None
    assert report.mutual_information.upper is not None
    assert report.mutual_information.lower <= truth <= report.mutual_information.upper
    assert report.environment.sandbox == "none"


def test_the_same_inputs_give_the_same_bytes(service: Running, encoder: bytes, data: bytes) -> None:
    """All of a report but its time, its timings and its environment."""
    texts = []
    for _ in range(2):
        with service.client() as http:
            posted = http.post(
                "/v1/jobs",
                files={"encoder": encoder, "dataset": data},
                data={"options": '{"seed": 9}'},
            )
            address = posted.headers["location"]
            assert http.get(address, params={"wait": 60}).json()["state"] == "succeeded"
            report = http.get(f"{address}/report").json()
            http.delete(address)
        for name in ("created_at", "timings", "environment"):
            del report[name]
        texts.append(json.dumps(report))
    assert texts[0] == texts[1]


def test_a_report_is_refused_while_the_job_runs(service: Running, data: bytes) -> None:
    slow = scripted(Linear(logvar=-2.5))
    with service.client() as http:
        posted = http.post("/v1/jobs", files={"encoder": slow, "dataset": data})
        answer = http.get(posted.headers["location"] + "/report")
        assert answer.status_code == 409
        assert answer.json()["code"] == "not_finished"
        http.delete(posted.headers["location"])
