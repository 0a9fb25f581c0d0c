"""What a request passes before any route: who may ask, and how much may be sent."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import answer
from latentgauge.errors import ForeignOrigin, LatentgaugeError, TooLarge

_JSON_BYTES = 1 << 20  # of a body that is no upload
FORM = "multipart/form-data"
_FORM_BYTES = 1 << 20  # that a multipart form may add to its files


class BodyLimit:
    """Bounds every body, by its Content-Length before it is read and by counting while it is."""

    def __init__(self, app: ASGIApp, *, max_upload_bytes: int) -> None:
        self._app = app
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(scope["method"], headers.get("content-type", ""))
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            await answer(_too_large(limit, f"a body of {announced} bytes"))(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit), send)

    def _limit(self, method: str, content_type: str) -> int:
        if method == "PUT":
            return self._max_upload_bytes
        if media_type(content_type) == FORM:
            return self._max_upload_bytes + _FORM_BYTES
        return _JSON_BYTES


def media_type(content_type: str) -> str:
    """The type of a Content-Type header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def _counted(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(limit, f"more than {limit} bytes")
        return message

    return counted


def _too_large(limit: int, got: str) -> TooLarge:
    return TooLarge(
        "the body is larger than this service takes",
        expected=f"at most {limit} bytes",
        got=got,
        remedy="post fewer rows or a narrower dtype, or ask the operator for a higher limit",
    )


class OwnOrigin:
    """Refuses what a foreign web page, or a foreign name for this address, sends.

    A service without keys answers anyone who can reach it; a page in a developer's browser can.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], origins: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (answer(refusal) if refusal else self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> LatentgaugeError | None:
        host = _hostname(headers.get("host", ""))
        if "*" not in self._hosts and host not in self._hosts:
            return _foreign(
                f"Host: {host[:100]}", "a name of this service: " + ", ".join(sorted(self._hosts))
            )
        origin = headers.get("origin")
        if origin in self._origins:
            return None
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return _foreign(f"Origin: {origin[:100]}", "a request of this service's own pages")
        if headers.get("sec-fetch-site") == "cross-site":
            return _foreign("Sec-Fetch-Site: cross-site", "a request of this service's own pages")
        return None


def _hostname(host: str) -> str:
    """The name in a Host header, without its port; empty when it is none."""
    try:
        return urlsplit("//" + host).hostname or ""
    except ValueError:
        return ""


def _foreign(got: str, expected: str) -> ForeignOrigin:
    return ForeignOrigin(
        "a foreign web page may not use this service",
        expected=expected,
        got=got,
        remedy="call it from a program, or let the operator allow the host or origin",
    )
