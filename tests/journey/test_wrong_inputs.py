"""What people post by mistake: each gets its code, what was expected, what came, what to do."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import torch
from torch import nn

from latentgauge.report import Report
from tests.conftest import Running, wait_for
from tests.models import (
    ADict,
    Chatty,
    Greedy,
    Hanging,
    Integers,
    Linear,
    NonFinite,
    OfFour,
    OneTensor,
    ThreeOutputs,
    npz,
    rows,
    scripted,
    traced,
)

PROBLEM = {"type", "title", "status", "code", "detail", "expected", "got", "remedy"}


def state_dict() -> bytes:
    file = io.BytesIO()
    torch.save(nn.Linear(6, 3).state_dict(), file)
    return file.getvalue()


def failed(http: httpx.Client, encoder: bytes, data: bytes, **fields: str) -> dict[str, Any]:
    """The error of a job that must fail."""
    posted = http.post("/v1/jobs", files={"encoder": encoder, "dataset": data}, data=fields)
    assert posted.status_code == 202, posted.text
    address = posted.headers["location"]
    job = http.get(address, params={"wait": 60}).json()
    assert job["state"] == "failed"
    report = http.get(f"{address}/report")
    assert report.status_code == 409
    assert report.json()["code"] == job["error"]["code"]
    error: dict[str, Any] = job["error"]
    assert error.keys() == PROBLEM
    assert all(error[part] for part in ("detail", "expected", "got", "remedy")), error
    return error


GOOD_ENCODER = scripted(Linear())
GOOD_DATA = npz(x=rows(60))
BAD_ROWS = rows(60)
BAD_ROWS[17, 2] = np.nan
BAD_ROWS[40, 0] = np.inf


@pytest.mark.parametrize(
    ("encoder", "data", "code", "says"),
    [
        (b"", GOOD_DATA, "unreadable_encoder", "an empty file"),
        (b"just a note\n", GOOD_DATA, "unreadable_encoder", "a text file"),
        (b"<!DOCTYPE html><p>404", GOOD_DATA, "unreadable_encoder", "an HTML page"),
        (GOOD_ENCODER[:1000], GOOD_DATA, "unreadable_encoder", "a zip archive that ends early"),
        (state_dict(), GOOD_DATA, "unsupported_encoder", "weights without a network"),
        (GOOD_DATA, GOOD_ENCODER, "unreadable_dataset", "look swapped"),
        (GOOD_ENCODER, b"", "unreadable_dataset", "an empty file"),
        (GOOD_ENCODER, b"a,b\n1,2\n", "unreadable_dataset", "a text file"),
        (GOOD_ENCODER, GOOD_DATA[:300], "unreadable_dataset", "a zip archive that ends early"),
        (GOOD_ENCODER, npz(x=rows()[:, :4]), "shape_mismatch", "rows of shape [4]"),
        (scripted(OneTensor()), GOOD_DATA, "not_a_posterior", "one tensor of shape [2, 3]"),
        (scripted(ThreeOutputs()), GOOD_DATA, "wrong_output", "3 outputs"),
        (scripted(ADict()), GOOD_DATA, "wrong_output", "keys mu, logvar"),
        (scripted(Integers()), GOOD_DATA, "wrong_output", "int64 of shape [2, 3]"),
        (GOOD_ENCODER, npz(x=BAD_ROWS), "non_finite_input", "rows 17, 40"),
        (
            scripted(NonFinite()),
            npz(x=np.where(np.arange(60)[:, None] == 33, 3, 0 * rows(60))),
            "non_finite_output",
            "row 33, counted from 0",
        ),
        (traced(OfFour(), torch.zeros(4, 6)), GOOD_DATA, "batch_pinned", "it takes 4 rows"),
        (scripted(Chatty()), GOOD_DATA, "output_limit", "prints too much"),
        (scripted(Greedy()), GOOD_DATA, "out_of_memory", "memory"),
    ],
)
def test_a_wrong_input_gets_its_code_and_its_sentences(
    service: Running, encoder: bytes, data: bytes, code: str, says: str
) -> None:
    with service.client() as http:
        error = failed(http, encoder, data)
    assert error["code"] == code, error
    assert says in " ".join(str(part) for part in error.values()), error


def test_a_hanging_encoder_ends_and_the_next_job_runs(service: Running) -> None:
    with service.client() as http:
        error = failed(http, scripted(Hanging()), GOOD_DATA)
        assert error["code"] == "time_limit"
        assert "time limit of 20 s reached in encode" in error["detail"]
        posted = http.post("/v1/jobs", files={"encoder": GOOD_ENCODER, "dataset": GOOD_DATA})
        job = http.get(posted.headers["location"], params={"wait": 60}).json()
        assert job["state"] == "succeeded"


def test_unscaled_bytes_are_warned_about_with_their_range(service: Running) -> None:
    pixels = npz(x=np.random.default_rng(0).integers(0, 200, (60, 6), dtype=np.uint8))
    with service.client() as http:
        posted = http.post("/v1/jobs", files={"encoder": GOOD_ENCODER, "dataset": pixels})
        address = posted.headers["location"]
        assert http.get(address, params={"wait": 60}).json()["state"] == "succeeded"
        report = Report.model_validate_json(http.get(f"{address}/report").text)
        warning = next(w for w in report.warnings if w.code == "input_range")
        assert "uint8 from 0 to 199" in warning.message
        posted = http.post(
            "/v1/jobs",
            files={"encoder": GOOD_ENCODER, "dataset": pixels},
            data={"options": '{"input_scale": 255}'},
        )
        address = posted.headers["location"]
        assert http.get(address, params={"wait": 60}).json()["state"] == "succeeded"
        scaled = Report.model_validate_json(http.get(f"{address}/report").text)
    assert not [w for w in scaled.warnings if w.code == "input_range"]


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        (b"not json", 422, "invalid_request", "the body is not JSON"),
        (b"[]", 422, "invalid_request", "a list"),
        (b"{}", 422, "invalid_request", "none of them"),
        (b'{"encoder": "' + b"a" * 64 + b'"}', 422, "invalid_request", "dataset"),
        (b'{"encoder": "short", "dataset": "short"}', 422, "invalid_request", "encoder"),
        (b'{"posterior": "' + b"a" * 64 + b'"}', 404, "not_found", "was not uploaded"),
        (b'{"posteriors": 3}', 422, "invalid_request", "posteriors"),
        (
            b'{"options": {"input_scales": 255}}',
            422,
            "unknown_option",
            "the nearest name is 'input_scale'",
        ),
        (b'{"options": {"confidence": 2}}', 422, "invalid_option", "option 'confidence'"),
        (b'{"gates": ["mutual_info > 3"]}', 422, "invalid_gate", "'mutual_information'"),
        (b'{"gates": ["kl == 3"]}', 422, "invalid_gate", "an interval is never equal"),
        (b'{"tags": {"": "x"}}', 422, "invalid_request", "a key of 0 characters"),
        (b'{"tags": {"a b": "x"}}', 422, "invalid_request", "the tag 'a b' cannot be used"),
        (b'{"tags": {"a": "\\ud800"}}', 422, "invalid_request", "halves of a surrogate pair"),
        (b'{"tags": {"a": "\\u0000"}}', 422, "invalid_request", "without NUL"),
        (b'{"gates": ["digest == \\ud800"]}', 422, "invalid_request", "cannot be stored"),
        (b'{"options": {"\\ud800": 1}}', 422, "invalid_request", "cannot be stored"),
        (b'{"a": ' * 900 + b"1" + b"}" * 900, 422, "invalid_request", ""),
        (b'{"options": {"seed": NaN}}', 422, "invalid_option", "option 'seed'"),
        (b'{"options": {"device": "cuda"}}', 503, "device_unavailable", "devices cpu"),
    ],
)
def test_a_wrong_request_gets_its_code_and_its_sentences(
    service: Running, body: bytes, status: int, code: str, says: str
) -> None:
    with service.client() as http:
        if code == "device_unavailable":
            sha = hashlib.sha256(GOOD_DATA).hexdigest()
            http.put(f"/v1/artifacts/{sha}", content=GOOD_DATA)
            fields = {**json.loads(body), "posterior": sha}
            body = json.dumps(fields).encode()
        answer = http.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem.keys() == PROBLEM
    assert says in " ".join(str(part) for part in problem.values()), problem


@pytest.mark.parametrize(
    ("files", "fields", "says"),
    [
        ({"encoder": b"x", "extra": b"y"}, {}, "'extra'"),
        ({"encoder": b"x"}, {"dataset": "text"}, "'dataset'"),
        ({"encoder": b"x"}, {"options": "{"}, "the field options is not JSON"),
        ({"encoder": b"x"}, {"gates": '"kl > 1"'}, "gates"),
        ({"encoder": b"x"}, {}, "an encoder and a dataset"),
        ({"encoder": b"x"}, {"tags": "[]"}, "tags"),
    ],
)
def test_a_wrong_form_says_which_part(
    service: Running, files: dict[str, bytes], fields: dict[str, str], says: str
) -> None:
    with service.client() as http:
        answer = http.post("/v1/jobs", files=files, data=fields)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
    assert says in " ".join(str(part) for part in answer.json().values()), answer.json()


def test_a_form_that_is_refused_leaves_no_file(service: Running) -> None:
    before = stored(service)
    with service.client() as http:
        for fields in ({"options": '{"bogus": 1}'}, {"gates": '["kl"]'}, {"tags": '{"": ""}'}):
            answer = http.post(
                "/v1/jobs", files={"encoder": b"new", "dataset": b"bytes"}, data=fields
            )
            assert answer.status_code == 422
    assert stored(service) == before


def test_a_part_that_comes_twice_is_refused(service: Running) -> None:
    with service.client() as http:
        answer = http.post("/v1/jobs", files=[("posterior", b"one"), ("posterior", b"two")])
    assert answer.status_code == 422
    assert "comes twice" in answer.json()["detail"]


def test_another_multipart_type_is_no_upload(service: Running) -> None:
    with service.client() as http:
        answer = http.post(
            "/v1/jobs",
            content=(b"z" * (1 << 20) for _ in range(3)),
            headers={"content-type": "multipart/mixed; boundary=b"},
        )
    assert answer.status_code == 413
    assert "at most 1048576 bytes" in answer.json()["expected"]


def test_the_type_of_a_form_may_be_written_in_capitals(service: Running) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="gates"\r\n\r\n["kl"]\r\n--b--\r\n'
    with service.client() as http:
        answer = http.post(
            "/v1/jobs", content=body, headers={"content-type": "Multipart/Form-Data; boundary=b"}
        )
    assert answer.json()["code"] == "invalid_gate"


def test_a_form_that_is_cut_off_is_no_fault_of_ours(service: Running) -> None:
    address = urlsplit(service.url)
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 3000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        'Content-Disposition: form-data; name="encoder"; filename="e"\r\n\r\n'
    )
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
        connection.sendall(head.encode() + b"z" * 100_000)
    time.sleep(0.5)
    assert "ClientDisconnect" not in service.log("web")


def test_a_form_that_is_none_is_said(service: Running) -> None:
    with service.client() as http:
        answer = http.post(
            "/v1/jobs", content=b"nothing", headers={"content-type": "multipart/form-data"}
        )
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"


def stored(service: Running) -> set[str]:
    return {p.name for p in (service.data / "artifacts").rglob("*") if p.is_file()}


def test_bytes_of_another_digest_are_refused_and_not_kept(service: Running) -> None:
    before = stored(service)
    with service.client() as http:
        answer = http.put(f"/v1/artifacts/{'0' * 64}", content=b"something")
    assert answer.status_code == 422
    assert answer.json()["code"] == "digest_mismatch"
    assert "9 bytes with sha256" in answer.json()["got"]
    assert stored(service) == before


def test_an_upload_cut_off_half_way_leaves_nothing(service: Running) -> None:
    before = stored(service)
    content = b"z" * 3_000_000
    sha = hashlib.sha256(content).hexdigest()
    address = urlsplit(service.url)
    head = (
        f"PUT /v1/artifacts/{sha} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
        connection.sendall(head.encode() + content[:2_000_000])
        wait_for(lambda: stored(service) != before, what="the part on the disk")
    wait_for(lambda: stored(service) == before, what="the part's removal")
    with service.client() as http:
        assert http.head(f"/v1/artifacts/{sha}").status_code == 404


def test_a_body_above_the_limit_is_refused_by_its_length(service: Running) -> None:
    before = stored(service)
    with service.client() as http:
        answer = http.put(f"/v1/artifacts/{'0' * 64}", content=b"z" * (9 << 20))
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"
    assert "at most 8388608 bytes" in answer.json()["expected"]
    assert stored(service) == before


def test_a_body_above_the_limit_is_refused_by_counting(service: Running) -> None:
    before = stored(service)
    chunks = (b"z" * (1 << 20) for _ in range(12))  # chunked: no Content-Length
    with service.client() as http:
        answer = http.put(f"/v1/artifacts/{'0' * 64}", content=chunks)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"
    assert stored(service) == before


def test_a_form_above_the_limit_is_refused_by_counting(service: Running) -> None:
    before = stored(service)
    part = b'--b\r\nContent-Disposition: form-data; name="encoder"; filename="e"\r\n\r\n'
    chunks = (part if i == 0 else b"z" * (1 << 20) for i in range(12))
    with service.client() as http:
        answer = http.post(
            "/v1/jobs",
            content=chunks,
            headers={"content-type": "multipart/form-data; boundary=b"},
        )
    assert answer.status_code == 413
    assert stored(service) == before


@pytest.mark.parametrize("address", ["xyz", "A" * 64])
def test_an_address_that_is_no_digest_is_said(service: Running, address: str) -> None:
    with service.client() as http:
        answer = http.put(f"/v1/artifacts/{address}", content=b"x")
        assert http.head(f"/v1/artifacts/{address}").status_code == 422
    assert answer.status_code == 422
    assert "64 lower-case hexadecimal digits" in answer.json()["expected"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/jobs/unknown", 404, "not_found"),
        ("GET", "/v1/jobs/unknown/report", 404, "not_found"),
        ("DELETE", "/v1/jobs/unknown", 404, "not_found"),
        ("PATCH", "/v1/jobs", 405, "invalid_request"),
        ("GET", "/v1/jobs?limit=0", 422, "invalid_request"),
        ("GET", "/v1/jobs?state=done", 422, "invalid_request"),
        ("GET", "/v1/jobs?cursor=%21%21", 422, "invalid_request"),
        ("GET", "/v1/jobs?cursor=aW5mOjAw", 422, "invalid_request"),
        ("GET", "/v1/jobs?cursor=MTpc", 422, "invalid_request"),
        ("GET", "/v1/jobs?tag.a%22%5D=x", 422, "invalid_request"),
        ("GET", "/v1/jobs?tag.a=%00", 422, "invalid_request"),
        ("GET", "/v1/jobs/%00", 404, "not_found"),
        ("GET", "/v1/jobs/%ED%A0%80", 404, "not_found"),
        ("GET", "/v1/jobs/unknown?wait=1000", 422, "invalid_request"),
    ],
)
def test_every_error_is_a_problem(
    service: Running, method: str, path: str, status: int, code: str
) -> None:
    with service.client() as http:
        answer = http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().keys() == PROBLEM


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "["},
        {"Host": "[::1"},
        {"Origin": "http://["},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_no_foreign_web_page_may_post_to_a_developers_machine(
    service: Running, headers: dict[str, str]
) -> None:
    with service.client() as http:
        answer = http.get("/v1/jobs", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["code"] == "foreign_origin"


def test_a_page_of_the_service_itself_may_post(service: Running) -> None:
    with service.client() as http:
        answer = http.get("/v1/jobs", headers={"Origin": service.url})
    assert answer.status_code == 200


def test_pages_of_jobs_follow_their_cursor(service: Running) -> None:
    with service.client() as http:
        for seed in range(3):
            http.post(
                "/v1/jobs",
                files={"encoder": b"", "dataset": b""},
                data={"options": json.dumps({"seed": seed}), "tags": '{"of": "pages"}'},
            )
        whole = http.get("/v1/jobs", params={"tag.of": "pages"}).json()
        assert len(whole["jobs"]) == 3
        assert whole["next"] is None
        seen, cursor = [], None
        while True:
            query = {"tag.of": "pages", "limit": 2} | ({"cursor": cursor} if cursor else {})
            page = http.get("/v1/jobs", params=query).json()
            seen += [job["id"] for job in page["jobs"]]
            cursor = page["next"]
            if cursor is None:
                break
    assert seen == [job["id"] for job in whole["jobs"]]


def test_an_index_beyond_a_report_that_is_there_is_refused_at_once(service: Running) -> None:
    files = {"posterior": npz(mu=rows(40), logvar=0 * rows(40))}
    with service.client() as http:
        first = http.post("/v1/jobs", files=files)
        http.get(first.headers["location"], params={"wait": 60})
        answer = http.post("/v1/jobs", files=files, data={"gates": '["dimensions[6].kl > 0"]'})
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_gate"


def test_an_index_beyond_the_latents_is_said_in_the_job(service: Running) -> None:
    with service.client() as http:
        posted = http.post(
            "/v1/jobs",
            files={"encoder": GOOD_ENCODER, "dataset": npz(x=rows(61))},
            data={"gates": '["dimensions[3].kl > 0"]'},
        )
        job = http.get(posted.headers["location"], params={"wait": 60}).json()
    assert job["state"] == "succeeded"
    assert job["verdict"] is None
    assert job["error"]["code"] == "invalid_gate"
    assert "an index below 3" in job["error"]["expected"]
