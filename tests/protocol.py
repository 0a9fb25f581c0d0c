"""A service that speaks the protocol over real HTTP and measures nothing."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from latentgauge.report import Report


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(status: int, code: str, **members: str) -> Answer:
    given = {"type": f"/problems/{code}", "title": code, "status": status, "code": code, **members}
    return Answer(status, json.dumps(given).encode(), "application/problem+json")


def busy(seconds: int = 0) -> Answer:
    return Answer(503, b"busy", "text/plain", {"Retry-After": str(seconds)})


HTML = Answer(404, b"<html><body>nginx says hello</body></html>", "text/html")


def document(job_id: str, state: str = "queued", **members: Any) -> dict[str, Any]:
    ended = state not in ("queued", "running")
    return {
        "id": job_id,
        "state": state,
        "progress": None,
        "attempt": 0 if state == "queued" else 1,
        "created_at": "2026-11-20T12:00:00Z",
        "started_at": None if state == "queued" else "2026-11-20T12:00:01Z",
        "finished_at": "2026-11-20T12:00:09Z" if ended else None,
        "inputs": {"encoder": None, "dataset": None, "posterior": "ab" * 32},
        "options": {},
        "gates": [],
        "tags": {},
        "error": None,
        "verdict": None,
        "a_member_of_a_newer_version": True,
        **members,
    }


@dataclass
class Service:
    """What the service holds, and what it does next: `refusals` are answered first."""

    address: str = ""
    artifacts: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    refusals: deque[Answer] = field(default_factory=deque)
    requests: list[tuple[str, str]] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    next_job: list[dict[str, Any]] = field(default_factory=list)

    def holds(self, *documents: dict[str, Any], report: Report | None = None) -> str:
        """A job that is seen in each of these states in turn, and stays in the last."""
        job_id = str(documents[0]["id"])
        self.jobs[job_id] = deque(documents)
        if report is not None:
            self.reports[job_id] = report
        return job_id

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        self.requests.append((method, target))
        if self.refusals:
            return self.refusals.popleft()
        split = urlsplit(target)
        query = dict(parse_qsl(split.query))
        match method, split.path.strip("/").split("/")[1:]:
            case "HEAD", ["artifacts", digest]:
                return Answer(200 if digest in self.artifacts else 404)
            case "PUT", ["artifacts", digest]:
                return self._store(digest, body)
            case "POST", ["jobs"]:
                return self._post(json.loads(body))
            case "GET", ["jobs"]:
                return self._list(query)
            case "GET", ["jobs", job_id, "report"]:
                return self._report(job_id)
            case "GET", ["jobs", job_id] if job_id in self.jobs:
                return _json(200, self._seen(job_id))
            case "DELETE", ["jobs", job_id] if job_id in self.jobs:
                del self.jobs[job_id]
                return Answer(204)
        return problem(404, "not_found", detail=f"nothing at {split.path}")

    def _store(self, digest: str, body: bytes) -> Answer:
        if hashlib.sha256(body).hexdigest() != digest:
            return problem(422, "digest_mismatch", detail="other bytes", expected=digest)
        self.artifacts[digest] = body
        return Answer(201)

    def _post(self, request: dict[str, Any]) -> Answer:
        self.posted.append(request)
        members = {"tags": request["tags"], "gates": request["gates"]}
        new = document(f"job{len(self.posted)}", **members)
        return _json(202, self._seen(self.holds(*(self.next_job or [new]))))

    def _seen(self, job_id: str) -> dict[str, Any]:
        states = self.jobs[job_id]
        return states.popleft() if len(states) > 1 else states[0]

    def _list(self, query: dict[str, str]) -> Answer:
        tags = {key[4:]: value for key, value in query.items() if key.startswith("tag.")}
        found = [
            states[0]
            for states in self.jobs.values()
            if query.get("state", states[0]["state"]) == states[0]["state"]
            and tags.items() <= states[0]["tags"].items()
        ]
        start = int(query.get("cursor", 0))
        end = start + int(query["limit"])
        cursor = str(end) if end < len(found) else None
        return _json(200, {"jobs": found[start:end], "next": cursor})

    def _report(self, job_id: str) -> Answer:
        if job_id in self.reports:
            return Answer(200, self.reports[job_id].to_json().encode())
        return problem(409, "not_finished", detail=f"job {job_id} has not ended")


def _json(status: int, value: object) -> Answer:
    return Answer(status, json.dumps(value).encode())


@contextmanager
def serving() -> Iterator[Service]:
    """The service on a free port of this machine, until the block ends."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            service.tokens.append(self.headers.get("Authorization"))
            answer = service.answer(self.command, self.path, body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    service.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
