"""The client of a gateway for programs with threads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _http
from ._http import FIRST_PAUSE_S, LAST_PAUSE_S, MARGIN_S, MAX_REQUESTS, MAX_TASKS, REQUEST_WAIT_S, GatewaySettings
from ._settings import check_timeout, chunks, id_of
from .errors import ConnectionFailed, RedialError, WaitTimeout
from .result import Result
from .stream import START, StreamEntry, of_event
from .task import MAX_BYTES, Task, TaskFields

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Gateway:
    """Enqueues calls over HTTP, through `redial serve`, and waits for their results. It has the methods of `Redial`.

    `url` is where the gateway is, and `token` what it wants to see, if anything. `queue` is that of the gateway or of the token by
    default. All other arguments become fields of every task, unless the task has them. A wait survives a gateway that is restarted.
    It needs httpx: `pip install 'redial-client[gateway]'`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        queue: str | None = None,
        max_task_bytes: int = MAX_BYTES,
        **defaults: Unpack[TaskFields],
    ) -> None:
        self._settings = GatewaySettings.new(url, token, queue, max_task_bytes, defaults)
        self._library = _http.library()
        self._client = self._library.Client(**self._settings.client_options())

    def enqueue(self, task: str | Mapping[str, Any], **fields: Unpack[TaskFields]) -> Task:
        """Enqueues a call: a URL and the fields of its task, or a task.

        Raises `InvalidTask`, `GatewayRefused`, and `ConnectionFailed` if the gateway did not confirm that it has the task, which
        may be on the queue all the same.
        """
        return self.enqueue_many([task], **fields)[0]

    def enqueue_many(self, tasks: Iterable[str | Mapping[str, Any]], **fields: Unpack[TaskFields]) -> list[Task]:
        """Enqueues calls, in their order; `fields` apply to each of them. If one is invalid, none of its thousand is enqueued."""
        prepared = [self._settings.prepare(task, fields) for task in tasks]
        enqueued: list[Task] = []
        for some in chunks(prepared, MAX_TASKS):
            try:
                status, content = self._request("POST", self._settings.tasks_path(), content=_http.body_of(some))
                enqueued += _http.enqueued(status, content)
            except ConnectionFailed as error:
                error.enqueued = enqueued
                raise
        return enqueued

    def wait(self, task: str | Task, *, timeout: float = 60, check: bool = True) -> Result:
        """Waits for a result, for `timeout` seconds at most. The task may have been enqueued by another program.

        Raises `CallFailed` if the call failed for good, unless `check` is false, and `WaitTimeout`.
        """
        timeout = check_timeout(timeout)
        result = self._wait(id_of(task), time.monotonic() + timeout)
        if result is None:
            raise WaitTimeout([id_of(task)], timeout)
        return result.check() if check else result

    def call(
        self,
        task: str | Mapping[str, Any],
        *,
        timeout: float = 60,
        check: bool = True,
        **fields: Unpack[TaskFields],
    ) -> Result:
        """Enqueues a call and waits for its result. After a `WaitTimeout` the call goes on; set `ttl_ms` if that is for nothing."""
        deadline = time.monotonic() + check_timeout(timeout)
        enqueued = self.enqueue(task, **fields)
        return self.wait(enqueued, timeout=max(0.0, deadline - time.monotonic()), check=check)

    def wait_many(self, tasks: Iterable[str | Task], *, timeout: float = 60, check: bool = False) -> list[Result]:
        """Waits for all results and returns them in the order of the tasks, by default also those of calls that failed.

        Raises `WaitTimeout`, whose `results` has what arrived in time, and `CallFailed` if `check` is true.
        """
        tasks = list(tasks)
        results: dict[str, Result] = {}
        for id, result in self._as_completed([id_of(task) for task in tasks], check_timeout(timeout)):
            results[id] = result.check() if check else result
        return [results[id_of(task)] for task in tasks]

    def as_completed(self, tasks: Iterable[str | Task], *, timeout: float = 60) -> Iterator[Result]:
        """Yields results as they arrive, also those of calls that failed. `timeout` seconds are for all of them."""
        waits = self._as_completed([id_of(task) for task in tasks], check_timeout(timeout))
        return (result for _, result in waits)

    def result(self, task: str | Task) -> Result | None:
        """The result of a task, or `None` if there is none, not yet or no longer. Neither waits nor raises `CallFailed`."""
        return _http.result_of(*self._request("GET", self._settings.path(id_of(task))))

    def cancel(self, task: str | Task) -> bool:
        """Cancels a task wherever it is. Its result says `cancelled` then. False: the task has ended before, or is not found."""
        return _http.was_cancelled(*self._request("DELETE", self._settings.path(id_of(task))))

    def stream(self, task: str | Task, *, after: str = START, timeout: float = 60) -> Iterator[StreamEntry]:
        """The answer of a task with `stream`, while it arrives: from behind an entry, or all of it.

        A reader that loses its connection goes on where it was. Raises `StreamFailed` if the answer breaks off, and
        `WaitTimeout` if nothing more comes within `timeout` seconds.
        """
        return self._stream(id_of(task), after, check_timeout(timeout))

    def close(self) -> None:
        """Ends the connections."""
        self._client.close()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _request(self, method: str, path: str, *, wait: float = 0, content: bytes | None = None) -> tuple[int, bytes]:
        headers = {"content-type": "application/json"} if content else {}
        try:
            response = self._client.request(method, path, content=content, headers=headers, timeout=wait + MARGIN_S)
        except self._library.HTTPError as error:
            raise ConnectionFailed(f"{method} {path}: {error or type(error).__name__}") from error
        return response.status_code, response.content

    def _wait(self, id: str, deadline: float) -> Result | None:
        """The result, or nothing at the deadline. While the gateway is away, the wait goes on."""
        pause = FIRST_PAUSE_S
        while True:
            wait = min(max(0.0, deadline - time.monotonic()), REQUEST_WAIT_S)
            try:
                result = _http.result_of(*self._request("GET", self._settings.path(id, wait=wait), wait=wait))
                if result is not None:
                    return result
            except RedialError as error:
                if not _http.is_passing(error):
                    raise
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(pause, left))
            pause = min(2 * pause, LAST_PAUSE_S)

    def _as_completed(self, ids: list[str], timeout: float) -> Iterator[tuple[str, Result]]:
        deadline = time.monotonic() + timeout
        missing, yielded = dict.fromkeys(ids), dict[str, Result]()
        pool = ThreadPoolExecutor(max(1, min(len(missing), MAX_REQUESTS)))
        try:
            waits = {pool.submit(self._wait, id, deadline): id for id in missing}
            for done in as_completed(waits):
                id, result = waits[done], done.result()
                if result is None:
                    raise WaitTimeout(list(missing), timeout, yielded)
                del missing[id]
                yielded[id] = result
                yield id, result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _stream(self, id: str, after: str, timeout: float) -> Iterator[StreamEntry]:
        quiet_since, pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            left = max(0.001, quiet_since + timeout - time.monotonic())
            try:
                for at, type, data in self._events(id, after, left):
                    entry = of_event(id, at, type, data)
                    if entry is None:
                        return
                    after, pause = entry.id, FIRST_PAUSE_S
                    yield entry
                    quiet_since = time.monotonic()  # Whoever takes long to read is not kept waiting.
            except RedialError as error:
                if not _http.is_passing(error):
                    raise
            if time.monotonic() >= quiet_since + timeout:
                raise WaitTimeout([id], timeout)
            time.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_S)

    def _events(self, id: str, after: str, silence: float) -> Iterator[tuple[str, str, str]]:
        path, events = self._settings.path(id, "/stream"), _http.Events()
        # A comment of the gateway every 15 s ends the silence for this library, and not for the caller.
        deadline = time.monotonic() + silence
        try:
            with self._client.stream("GET", path, headers={"last-event-id": after}, timeout=max(silence, 0.001)) as response:
                if response.status_code == 404:
                    return  # It may not be there yet.
                if response.status_code >= 300:
                    raise _http.refusal(response.status_code, response.read())
                for piece in response.iter_bytes():
                    for event in events.feed(piece):
                        yield event
                        deadline = time.monotonic() + silence
                    if time.monotonic() >= deadline:
                        return
        except self._library.HTTPError as error:
            raise ConnectionFailed(f"GET {path}: {error or type(error).__name__}") from error
