"""A service from afar: upload, submit, wait, read the report.

    with Client("http://127.0.0.1:8000") as client:
        job = client.submit(
            encoder=client.upload(Path("encoder.pt")),
            dataset=client.upload(Path("data.npz")),
            gates=["mutual_information >= 3"],
        )
        report = client.report(client.wait(job.id, deadline_s=600).id)

Every call has a time-out; what a call raises is in `Client`.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from latentgauge.errors import (
    DeadlinePassed,
    InvalidRequest,
    ServiceUnavailable,
    from_problem,
)
from latentgauge.job import Document, Job, State
from latentgauge.report import Report

T = TypeVar("T", bound=BaseModel)

_PAGE = 100
_CHUNK = 1 << 20
_LONG_POLL_S = 30.0
_PROGRESS_POLL_S = 1.0
# Between tries of a call that may be repeated: about 6 s in all.
PAUSES_S = (0.2, 0.4, 0.8, 1.6, 3.0)
_LONGEST_PAUSE_S = 10.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PASSING = frozenset({502, 503, 504})
_BROKEN = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.RemoteProtocolError,
)


class _Page(Document):
    jobs: list[Job]
    next: str | None = None


class Client:
    """One service and the connections to it.

    Calls that change nothing twice (GET, HEAD, PUT) are tried again when the connection breaks
    or the service says 502, 503 or 504; a POST is sent once.

    Raises:
        InvalidRequest: the address or the token cannot be one.
        ServiceUnavailable: no answer, or the answer of something that is not latentgauge.
        LatentgaugeError: whichever problem the service answers with, by its code.
    """

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        pauses: Sequence[float] = PAUSES_S,
    ) -> None:
        self.server = _server(server)
        self._timeout = timeout
        self._pauses = tuple(pauses)
        # A proxy that the environment names has no way to this machine.
        near = httpx.URL(self.server).host in _LOOPBACK
        self._http = httpx.Client(headers=_headers(token), timeout=timeout, trust_env=not near)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def address(self, job_id: str) -> str:
        return f"{self.server}/v1/jobs/{quote(job_id, safe='')}"

    def upload(self, path: Path, *, on_progress: Callable[[float], None] | None = None) -> str:
        """The file's sha256, once the service has the file; it is not sent when it is known."""
        digest = sha256_of(path)
        address = f"{self.server}/v1/artifacts/{digest}"
        if self._send("HEAD", address).status_code != 200:
            _checked(self._send("PUT", address, body=lambda: _body(path, on_progress)))
        return digest

    def submit(
        self,
        *,
        encoder: str | None = None,
        dataset: str | None = None,
        posterior: str | None = None,
        options: Mapping[str, Any] | None = None,
        gates: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> Job:
        """A job on uploaded artifacts: an encoder and a data set, or a posterior table."""
        inputs = {"encoder": encoder, "dataset": dataset, "posterior": posterior}
        request = {
            **{name: digest for name, digest in inputs.items() if digest is not None},
            "options": dict(options or {}),
            "gates": list(gates),
            "tags": dict(tags or {}),
        }
        answer = self._send("POST", f"{self.server}/v1/jobs", json=request)
        return _read(Job, answer)

    def job(self, job_id: str) -> Job:
        return _read(Job, self._send("GET", self.address(job_id)))

    def wait(
        self,
        job_id: str,
        *,
        deadline_s: float,
        on_progress: Callable[[Job], None] | None = None,
    ) -> Job:
        """The job once it has ended, whichever way.

        Raises:
            DeadlinePassed: it had not after `deadline_s` seconds; it goes on all the same.
        """
        until = time.monotonic() + deadline_s
        longest = _LONG_POLL_S if on_progress is None else _PROGRESS_POLL_S
        while True:
            left = max(until - time.monotonic(), 0.0)
            job = self._poll(job_id, wait_s=min(left, longest))
            if on_progress is not None:
                on_progress(job)
            if job.ended:
                return job
            if time.monotonic() >= until:
                raise DeadlinePassed(
                    f"job {job_id} is still {job.state} after {deadline_s:g} s",
                    expected=f"an end within {deadline_s:g} s",
                    got=job.state,
                    remedy=f"the job goes on: wait again for {self.address(job_id)}",
                )

    def report(self, job_id: str) -> Report:
        """The report of a job that succeeded."""
        return _read(Report, self._send("GET", self.address(job_id) + "/report"))

    def jobs(
        self,
        *,
        state: State | None = None,
        tags: Mapping[str, str] | None = None,
        limit: int = 20,
    ) -> list[Job]:
        """At most `limit` jobs, the newest first."""
        query = {f"tag.{key}": value for key, value in (tags or {}).items()}
        if state is not None:
            query["state"] = state
        found: list[Job] = []
        cursor: str | None = None
        while len(found) < limit:
            turn = {"limit": str(min(limit - len(found), _PAGE))}
            turn |= {} if cursor is None else {"cursor": cursor}
            page = _read(_Page, self._send("GET", f"{self.server}/v1/jobs", query=query | turn))
            found += page.jobs
            cursor = page.next
            if cursor is None:
                break
        return found[:limit]

    def delete(self, job_id: str) -> None:
        """Removes the job, its report, and the artifacts that nothing else needs."""
        _checked(self._send("DELETE", self.address(job_id)))

    def _poll(self, job_id: str, *, wait_s: float) -> Job:
        started = time.monotonic()
        answer = self._send(
            "GET",
            self.address(job_id),
            query={"wait": str(int(wait_s))},
            timeout=wait_s + self._timeout,
        )
        job = _read(Job, answer)
        if not job.ended:  # a service that does not wait is not asked in a tight loop
            time.sleep(max(0.0, min(wait_s, 0.2) - (time.monotonic() - started)))
        return job

    def _send(
        self,
        method: str,
        address: str,
        *,
        body: Callable[[], dict[str, Any]] | None = None,
        json: object = None,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """The service's answer, after as many tries as the method allows."""
        pauses = iter(self._pauses if method in ("GET", "HEAD", "PUT") else ())
        while True:
            try:
                answer = self._http.request(
                    method,
                    address,
                    json=json,
                    params=query,
                    timeout=timeout or self._timeout,
                    **(body() if body else {}),
                )
            except _BROKEN as error:
                pause = next(pauses, None)
                if pause is None:
                    raise self._unreachable(error) from error
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            else:
                pause = next(pauses, None) if answer.status_code in _PASSING else None
                if pause is None:
                    return answer
                pause = retry_after(answer.headers.get("retry-after", ""), least=pause)
            time.sleep(pause)

    def _unreachable(self, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"the service at {self.server} cannot be reached",
            expected="an answer over HTTP",
            got=f"{type(error).__name__}: {error}",
            remedy="check the address, and that the service runs",
        )


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def retry_after(header: str, *, least: float) -> float:
    """Seconds before the next try: what the service asks for, within bounds."""
    asked = float(header) if re.fullmatch(r"\d{1,6}", header.strip()) else 0.0
    return min(max(asked, least), _LONGEST_PAUSE_S)


def _body(path: Path, on_progress: Callable[[float], None] | None) -> dict[str, Any]:
    """A file on its way out, with its length told first so that the service can refuse early."""
    length = path.stat().st_size
    headers = {"content-length": str(length), "content-type": "application/octet-stream"}
    return {"content": _chunks(path, length, on_progress), "headers": headers}


def _chunks(
    path: Path, length: int, on_progress: Callable[[float], None] | None
) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sent += len(chunk)
            yield chunk
            if on_progress is not None:
                on_progress(sent / length)


def _server(server: str) -> str:
    try:
        url = httpx.URL(server.strip())
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidRequest(
            f"{server[:200]!r} is no address of a service",
            expected="http://HOST:PORT or https://HOST",
            got=server[:200],
            remedy="give --server or LATENTGAUGE_SERVER the service's address",
        )
    return str(url).rstrip("/")


def _headers(token: str | None) -> dict[str, str]:
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()):
        raise InvalidRequest(
            "the token holds characters that no token has",
            expected="printable ASCII",
            got="other characters",
            remedy="copy the token again",
        )
    accept = {"accept": "application/json"}
    return accept | ({"authorization": f"Bearer {token}"} if token else {})


def _read(kind: type[T], answer: httpx.Response) -> T:
    """The document in an answer."""
    try:
        return kind.model_validate_json(_checked(answer).content)
    except ValidationError as error:
        raise ServiceUnavailable(
            f"{answer.url} answers with something else than a {kind.__name__.strip('_').lower()}",
            expected="a document of the service's version 1",
            got=_first_words(answer),
            remedy="check that the address is latentgauge's, and that both are of one version",
        ) from error


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    problem = _problem(answer)
    if problem is not None:
        raise from_problem(problem)
    if answer.is_server_error:
        raise ServiceUnavailable(
            f"the service failed with status {answer.status_code} at {answer.url}",
            expected="an answer of latentgauge",
            got=_first_words(answer),
            remedy="try again later; the service's log says more",
        )
    raise ServiceUnavailable(
        f"{answer.url} is not latentgauge's: it answers {answer.status_code}",
        expected="application/problem+json",
        got=_first_words(answer),
        remedy="check the address of the service",
    )


def _problem(answer: httpx.Response) -> Mapping[str, object] | None:
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) and "code" in found else None


def _first_words(answer: httpx.Response) -> str:
    kind = answer.headers.get("content-type", "no content type")
    return f"{answer.status_code}, {kind}: {' '.join(answer.text.split())[:120]}"
