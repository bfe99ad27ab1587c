"""Transports that make the requests of an HTTP client through Redial: of httpx2 and httpx, and so of the SDKs built on them."""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import RedialError, WaitTimeout
from .result import Result

if TYPE_CHECKING:
    from .aio import AsyncRedial
    from .client import Redial

# Headers of a single connection, and credentials: the worker adds its own, so that none enters Redis.
_LEFT_OUT = re.compile(
    r"host|connection|keep-alive|te|trailer|upgrade|transfer-encoding|content-(length|encoding)|accept-encoding"
    r"|proxy-.*|authorization|(x-|x-goog-)?api-key|cookie|set-cookie"
)


class _Requests:
    """How a request becomes a task, and a result the response."""

    def __init__(self, wait_s: float, fields: Mapping[str, Any]) -> None:
        self._wait_s = wait_s
        self._fields = fields

    def task(self, request: Any) -> tuple[dict[str, Any], float]:
        """The request as a task, and how many seconds to wait for its result."""
        headers = {name: value for name, value in request.headers.items() if not _LEFT_OUT.fullmatch(name)}
        timeout_s = (request.extensions.get("timeout") or {}).get("read") or 600.0
        task = {
            "url": str(request.url),
            "method": request.method,
            "idempotency_key": headers.pop("idempotency-key", None),
            "headers": headers,
            "timeout_ms": max(1, int(timeout_s * 1000)),
            "expires_at_ms": int((time.time() + self._wait_s) * 1000),
            **_body(headers, request.content),
            **self._fields,
        }
        return task, self._wait_s + timeout_s

    def response(self, result: Result, request: Any) -> Any:
        """The upstream's response. Redial has retried what is to be retried: an SDK has nothing left to do."""
        if result.http_status is None:
            raise _http(request).ConnectError(f"task {result.id}: {result.reason}: {result.error}", request=request)
        headers = {name: value for name, value in result.headers.items() if not _LEFT_OUT.fullmatch(name)}
        headers.update({"x-should-retry": "false", "redial-id": str(result.id), "redial-source": result.source})
        return _http(request).Response(result.http_status, headers=headers, content=result.content)


class Transport(_Requests):
    """For `httpx2.Client`, `httpx.Client`, and SDKs that take one as `http_client`.

    No attempt starts later than `wait_s` seconds after the request. All other arguments become fields of every task. The request's
    read timeout, ten minutes if it has none, limits one attempt.
    """

    def __init__(self, redial: Redial, *, wait_s: float = 900, **fields: Any) -> None:
        super().__init__(wait_s, fields)
        self._redial = redial

    def handle_request(self, request: Any) -> Any:
        """Enqueues the request and waits for its result."""
        request.read()
        if _is_stream(request):
            return _no_streams(request)
        task, timeout = self.task(request)
        try:
            result = self._redial.call(task, timeout=timeout, check=False)
        except RedialError as error:
            raise _as_http_error(error, request) from error
        return self.response(result, request)

    def close(self) -> None:
        """Does nothing: the client of Redial may have other users."""

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncTransport(_Requests):
    """For `httpx2.AsyncClient`, `httpx.AsyncClient`, and SDKs that take one. Arguments and timeouts are those of `Transport`."""

    def __init__(self, redial: AsyncRedial, *, wait_s: float = 900, **fields: Any) -> None:
        super().__init__(wait_s, fields)
        self._redial = redial

    async def handle_async_request(self, request: Any) -> Any:
        """Enqueues the request and waits for its result."""
        await request.aread()
        if _is_stream(request):
            return _no_streams(request)
        task, timeout = self.task(request)
        try:
            result = await self._redial.call(task, timeout=timeout, check=False)
        except RedialError as error:
            raise _as_http_error(error, request) from error
        return self.response(result, request)

    async def aclose(self) -> None:
        """Does nothing: the client of Redial may have other users."""

    async def __aenter__(self) -> AsyncTransport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _http(request: Any) -> Any:
    """The library that made the request: httpx2 or httpx. They have the same classes."""
    return sys.modules[type(request).__module__.partition(".")[0]]


def _body(headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
    if not content:
        return {}
    if headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        try:
            # As JSON, so that equal calls share a cached answer however their SDK spaces it.
            body = json.loads(content)
        except ValueError:
            body = None
        if body is not None:
            return {"body": body}
    return {"body_base64": base64.b64encode(content).decode()}


def _is_stream(request: Any) -> bool:
    if "application/json" not in request.headers.get("content-type", ""):
        return False
    try:
        body = json.loads(request.content or b"null")
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("stream") is True


def _no_streams(request: Any) -> Any:
    """A response, because SDKs reduce whatever is raised here to a connection error."""
    message = "streams can't go through a queue: leave out `stream`"
    error = {"message": message, "type": "invalid_request_error", "param": "stream", "code": None}
    return _http(request).Response(400, json={"error": error}, headers={"x-should-retry": "false"})


def _as_http_error(error: RedialError, request: Any) -> Exception:
    kind = "ReadTimeout" if isinstance(error, WaitTimeout) else "ConnectError"
    made: Exception = getattr(_http(request), kind)(str(error), request=request)
    return made
