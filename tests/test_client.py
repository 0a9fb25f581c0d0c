from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import latentgauge
from latentgauge.client import Client, retry_after
from latentgauge.errors import (
    Canceled,
    DeadlinePassed,
    DigestMismatch,
    InternalError,
    InvalidRequest,
    NonFiniteInput,
    NotFinished,
    NotFound,
    ServiceUnavailable,
    TooLarge,
)
from latentgauge.job import Job
from latentgauge.report import Report
from tests.protocol import HTML, Answer, Service, busy, document, problem, serving
from tests.render.reports import live, verdict

ROOT = Path(__file__).parent.parent
QUICK = (0.01, 0.01, 0.01)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.address, pauses=QUICK) as client:
        yield client


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "encoder.pt"
    path.write_bytes(b"weights" * 500_000)
    return path


# ---------------------------------------------------------------- uploads


def test_an_upload_arrives_whole_under_its_digest(
    service: Service, client: Client, file: Path
) -> None:
    digest = client.upload(file)
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert service.artifacts == {digest: file.read_bytes()}


def test_a_file_that_the_service_has_is_not_sent_again(
    service: Service, client: Client, file: Path
) -> None:
    assert client.upload(file) == client.upload(file)
    assert [method for method, _ in service.requests] == ["HEAD", "PUT", "HEAD"]


def test_an_upload_says_how_far_it_is(client: Client, file: Path) -> None:
    fractions: list[float] = []
    client.upload(file, on_progress=fractions.append)
    assert len(fractions) == 4  # 3.5 MB in pieces of 1 MiB
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_an_empty_file_can_be_uploaded(service: Service, client: Client, tmp_path: Path) -> None:
    empty = tmp_path / "empty.npz"
    empty.touch()
    assert client.upload(empty) in service.artifacts


def test_an_upload_is_sent_whole_again_when_the_service_was_busy(
    service: Service, client: Client, file: Path
) -> None:
    client.upload(file)
    service.artifacts.clear()
    service.refusals.extend([Answer(404), busy(), busy()])
    digest = client.upload(file)
    assert service.artifacts[digest] == file.read_bytes()


def test_a_refused_upload_raises_the_problem_that_the_service_tells(
    service: Service, client: Client, file: Path
) -> None:
    refusal = problem(413, "too_large", detail="3500000 bytes", expected="1000", remedy="crop")
    service.refusals.extend([Answer(404), refusal])
    with pytest.raises(TooLarge, match="3500000 bytes; expected: 1000; what to do: crop"):
        client.upload(file)


def test_a_digest_that_differs_on_arrival_is_told(
    service: Service, client: Client, file: Path
) -> None:
    told = problem(422, "digest_mismatch", detail="other bytes")
    service.refusals.extend([Answer(404), told])
    with pytest.raises(DigestMismatch, match="other bytes"):
        client.upload(file)


# ---------------------------------------------------------------- jobs


def test_submitting_sends_only_the_inputs_that_there_are(service: Service, client: Client) -> None:
    job = client.submit(
        posterior="ab" * 32, options={"seed": 3}, gates=["n >= 1"], tags={"branch": "main"}
    )
    assert service.posted == [
        {
            "posterior": "ab" * 32,
            "options": {"seed": 3},
            "gates": ["n >= 1"],
            "tags": {"branch": "main"},
        }
    ]
    assert (job.id, job.state, job.tags) == ("job1", "queued", {"branch": "main"})
    assert client.address(job.id) == f"{service.address}/v1/jobs/job1"


def test_a_post_is_sent_once(service: Service, client: Client) -> None:
    service.refusals.append(busy())
    with pytest.raises(ServiceUnavailable, match="failed with status 503"):
        client.submit(posterior="ab" * 32)
    assert len(service.requests) == 1


def test_a_read_goes_on_after_the_service_was_busy(service: Service, client: Client) -> None:
    service.holds(document("a"))
    service.refusals.extend([busy(), Answer(502), Answer(504)])
    assert client.job("a").id == "a"
    assert len(service.requests) == 4


def test_a_service_that_stays_busy_is_unavailable(service: Service, client: Client) -> None:
    service.refusals.extend([busy()] * 4)
    with pytest.raises(ServiceUnavailable, match="status 503"):
        client.job("a")


@pytest.mark.parametrize(
    ("header", "pause"),
    [("", 0.4), ("2", 2.0), ("0", 0.4), ("86400", 10.0), ("tomorrow", 0.4), ("-5", 0.4)],
)
def test_retry_after_is_honoured_within_bounds(header: str, pause: float) -> None:
    assert retry_after(header, least=0.4) == pause


def test_waiting_returns_the_job_when_it_has_ended(service: Service, client: Client) -> None:
    running = document("a", "running", progress={"stage": "encoding", "fraction": 0.5})
    ended = document("a", "succeeded", verdict=verdict().model_dump(mode="json"))
    service.holds(document("a"), running, ended)
    seen: list[Job] = []
    job = client.wait("a", deadline_s=20, on_progress=seen.append)
    assert [job.state for job in seen] == ["queued", "running", "succeeded"]
    assert seen[1].progress is not None
    assert seen[1].progress.stage == "encoding"
    assert job.verdict == verdict()


def test_waiting_asks_the_service_to_hold_the_answer(service: Service, client: Client) -> None:
    service.holds(document("a", "succeeded"))
    client.wait("a", deadline_s=12)
    client.wait("a", deadline_s=600)
    assert [target for _, target in service.requests] == [
        "/v1/jobs/a?wait=11",
        "/v1/jobs/a?wait=30",
    ]


def test_waiting_ends_with_the_deadline(service: Service, client: Client) -> None:
    service.holds(document("a", "running"))
    with pytest.raises(DeadlinePassed, match=r"still running after 0\.3 s") as caught:
        client.wait("a", deadline_s=0.3)
    assert caught.value.remedy.endswith(f"{service.address}/v1/jobs/a")


def test_a_report_comes_back_as_it_was(service: Service, client: Client) -> None:
    service.holds(document("a", "succeeded"), report=live())
    assert client.report("a") == live()


def test_a_report_before_its_time_is_not_finished(service: Service, client: Client) -> None:
    service.holds(document("a"))
    with pytest.raises(NotFinished, match="job a has not ended"):
        client.report("a")


def test_listing_follows_the_pages_up_to_the_limit(service: Service, client: Client) -> None:
    for number in range(250):
        service.holds(document(f"job{number}"))
    assert len(client.jobs(limit=230)) == 230
    assert len(client.jobs(limit=1000)) == 250
    assert [job.id for job in client.jobs(limit=2)] == ["job0", "job1"]


def test_listing_filters_by_state_and_tag(service: Service, client: Client) -> None:
    service.holds(document("a", "failed", tags={"branch": "main"}))
    service.holds(document("b", "failed"))
    service.holds(document("c", tags={"branch": "main"}))
    found = client.jobs(state="failed", tags={"branch": "main"})
    assert [job.id for job in found] == ["a"]


def test_a_deleted_job_is_gone(service: Service, client: Client) -> None:
    service.holds(document("a"))
    client.delete("a")
    with pytest.raises(NotFound, match="nothing at /v1/jobs/a"):
        client.job("a")


def test_an_id_cannot_lead_to_another_path(service: Service, client: Client) -> None:
    assert client.address("../../admin") == f"{service.address}/v1/jobs/..%2F..%2Fadmin"


def test_a_failed_job_carries_its_reason() -> None:
    error = {"code": "non_finite_input", "detail": "rows 17 and 40", "expected": None}
    failure = Job.model_validate(document("a", "failed", error=error)).failure()
    assert isinstance(failure, NonFiniteInput)
    assert (failure.detail, failure.expected) == ("rows 17 and 40", "")
    canceled = Job.model_validate(document("a", "canceled")).failure()
    assert isinstance(canceled, Canceled)
    assert "job a was canceled" in str(canceled)
    assert Job.model_validate(document("a", "succeeded")).failure() is None


# ---------------------------------------------------------------- services that are none


def test_nobody_listening_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with (
        Client(address, pauses=QUICK) as client,
        pytest.raises(ServiceUnavailable, match=r"cannot be reached.*ConnectError"),
    ):
        client.job("a")


def test_a_service_that_never_answers_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Client(address, timeout=0.2, pauses=QUICK) as client,
            pytest.raises(ServiceUnavailable, match="ReadTimeout"),
        ):
            client.job("a")


def test_a_connection_that_breaks_is_tried_again(service: Service) -> None:
    """The first connection is closed without an answer, the second one reaches the service."""
    service.holds(document("a"))
    with socket.create_server(("127.0.0.1", 0)) as gate:
        thread = threading.Thread(target=_break_once_then_relay, args=(gate, service.address))
        thread.start()
        address = f"http://127.0.0.1:{gate.getsockname()[1]}"
        with Client(address, pauses=QUICK) as client:
            assert client.job("a").id == "a"
        thread.join()


def _break_once_then_relay(gate: socket.socket, address: str) -> None:
    gate.accept()[0].close()
    near, _ = gate.accept()
    port = int(address.rsplit(":", 1)[1])
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        far.sendall(near.recv(65536))
        while data := far.recv(65536):
            near.sendall(data)


@pytest.mark.parametrize("status", [200, 404])
def test_a_web_page_is_no_answer_of_latentgauge(
    service: Service, client: Client, status: int
) -> None:
    service.refusals.append(Answer(status, HTML.body, HTML.kind))
    with pytest.raises(ServiceUnavailable, match=r"text/html: <html><body>nginx says hello"):
        client.job("a")


def test_json_of_another_service_is_no_answer_of_latentgauge(
    service: Service, client: Client
) -> None:
    service.refusals.append(Answer(200, b'{"hello": "world"}'))
    with pytest.raises(ServiceUnavailable, match="something else than a job"):
        client.job("a")
    service.refusals.append(Answer(404, b'{"detail": "Not Found"}'))
    with pytest.raises(ServiceUnavailable, match="is not latentgauge's: it answers 404"):
        client.job("a")


def test_a_redirect_is_not_followed(service: Service, client: Client) -> None:
    elsewhere = Answer(307, headers={"Location": "https://elsewhere.example/"})
    service.refusals.append(elsewhere)
    with pytest.raises(ServiceUnavailable, match="it answers 307"):
        client.job("a")


def test_a_server_error_without_a_problem_is_unavailable(service: Service, client: Client) -> None:
    service.refusals.append(Answer(500, b"Internal Server Error", "text/plain"))
    with pytest.raises(ServiceUnavailable, match="status 500"):
        client.job("a")


def test_a_problem_with_an_unknown_code_is_an_internal_error(
    service: Service, client: Client
) -> None:
    service.refusals.append(problem(418, "teapot", detail="short and stout"))
    with pytest.raises(InternalError, match="short and stout"):
        client.job("a")


# ---------------------------------------------------------------- addresses and tokens


def test_the_token_is_sent_without_the_blanks_around_it(service: Service) -> None:
    service.holds(document("a"))
    with Client(service.address, "lg_secret\n") as client:
        client.job("a")
    with Client(service.address) as client:
        client.job("a")
    assert service.tokens == ["Bearer lg_secret", None]


def test_a_proxy_of_the_environment_is_asked_for_other_machines_only(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.holds(document("a"))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, service.address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Client(service.address) as client:
        client.job("a")
    with Client("http://gauge.example") as client, pytest.raises(NotFound):
        client.job("b")
    assert [target for _, target in service.requests] == [
        "/v1/jobs/a",
        "http://gauge.example/v1/jobs/b",
    ]


@pytest.mark.parametrize("server", ["nowhere", "ftp://host", "http://", "http://[::1", "host:80"])
def test_an_address_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(InvalidRequest, match="is no address of a service"):
        Client(server)


@pytest.mark.parametrize("token", ["gr\u00fcn", "two\nlines"])
def test_a_token_that_cannot_be_one_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(InvalidRequest, match="characters that no token has") as caught:
        Client("http://host", token)
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import latentgauge", {"torch", "numpy", "httpx", "pydantic"}),
        ("from latentgauge import Client, Report", {"torch", "numpy"}),
        ("import latentgauge.cli", {"torch", "numpy"}),
    ],
)
def test_importing_stays_light(statement: str, forbidden: set[str]) -> None:
    probe = f"import sys; {statement}; print(*{forbidden} & sys.modules.keys())"
    ran = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ran.stdout == "\n"


def test_the_package_offers_what_it_lists_and_nothing_else() -> None:
    assert latentgauge.Client is Client
    assert latentgauge.Report is Report
    assert set(latentgauge.__all__) == {"Client", "Report", "__version__"}
    with pytest.raises(AttributeError, match="module 'latentgauge' has no attribute 'Cliant'"):
        latentgauge.Cliant  # noqa: B018
