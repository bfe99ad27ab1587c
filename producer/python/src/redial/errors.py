"""What can go wrong, as exceptions. All of them are `RedialError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .result import Result
    from .task import Task


class RedialError(Exception):
    """The base of every exception that this package raises."""


class InvalidTask(RedialError, ValueError):
    """The task breaks a rule of the protocol. It was not enqueued; the message names the field."""


class UnknownFieldWarning(UserWarning):
    """A field that this version does not know: most likely a typo. Workers ignore the fields that they do not know."""


class CallFailed(RedialError):
    """The call failed for good. It is kept as a dead letter: `redial dead show ID`."""

    def __init__(self, result: Result) -> None:
        status = f" (HTTP {result.http_status})" if result.http_status is not None else ""
        super().__init__(f"task {result.id}: {result.reason}{status}: {result.error}")
        self.result = result
        """All that is known about the call, such as the body of its last response."""
        self.id: str | None = result.id
        """The id of the task; `None` if it could not be read."""
        self.reason: str | None = result.reason
        """Why, as in the protocol: `rejected`, `attempts_exhausted`, `expired`, `cancelled`, ..."""
        self.http_status: int | None = result.http_status
        """The status of the last response, if there was one."""

    def __reduce__(self) -> tuple[type[CallFailed], tuple[Result]]:
        return type(self), (self.result,)


class WaitTimeout(RedialError, TimeoutError):
    """There was no result in time. The call goes on, and its result can still be waited for by its id."""

    def __init__(self, ids: Sequence[str], timeout: float, results: Mapping[str, Result] | None = None) -> None:
        listed = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        super().__init__(f"no result of {listed} within {timeout:g} s: is a worker running?")
        self.ids = list(ids)
        """The tasks that have no result yet."""
        self.timeout = timeout
        """How long the wait was, in seconds."""
        self.results: dict[str, Result] = dict(results or {})
        """The results that arrived in time, by id, where several were waited for."""

    def __reduce__(self) -> tuple[type[WaitTimeout], tuple[Sequence[str], float, Mapping[str, Result]]]:
        return type(self), (self.ids, self.timeout, self.results)


class ConnectionFailed(RedialError, ConnectionError):
    """Redis could not be reached, or it refused the command. The cause is the exception of the package `redis`.

    If this happened while a task was being enqueued, the task may have been enqueued all the same. Enqueue it again with the
    same `idempotency_key` if the call must not be made twice.
    """

    def __init__(self, message: str, enqueued: Sequence[Task] = ()) -> None:
        super().__init__(message)
        self.enqueued = list(enqueued)
        """The tasks of `enqueue_many` that are known to have been enqueued."""


class GatewayRefused(RedialError):
    """The gateway does not do what it was asked for."""

    def __init__(self, status: int, code: str | None, detail: str) -> None:
        named = f" ({code})" if code else ""
        super().__init__(f"the gateway answered {status}{named}: {detail}")
        self.status = status
        """The HTTP status."""
        self.code = code
        """What is wrong, as in `docs/gateway.md`: `unauthorized`, `forbidden`, `invalid_task`, ..."""
        self.detail = detail

    def __reduce__(self) -> tuple[type[GatewayRefused], tuple[int, str | None, str]]:
        return type(self), (self.status, self.code, self.detail)


class StreamFailed(RedialError):
    """An answer broke off while it arrived, or the task has ended without a stream. Its result says what became of it."""

    def __init__(self, id: str, reason: str | None, error: str) -> None:
        super().__init__(f"task {id}: {error}")
        self.id = id
        """The task."""
        self.reason = reason
        """Why the task is dead; `None` if its result has the answer all the same."""
        self.error = error

    def __reduce__(self) -> tuple[type[StreamFailed], tuple[str, str | None, str]]:
        return type(self), (self.id, self.reason, self.error)


class ClientClosed(RedialError, RuntimeError):
    """The client was closed."""
