"""The client for programs with threads."""

from __future__ import annotations

import os
import queue as queues
import subprocess
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import TYPE_CHECKING, Any

import redis

from ._reader import Process
from ._settings import FIRST_POLL_S, LAST_POLL_S, Settings, check_timeout, id_of, polls
from .errors import ConnectionFailed, WaitTimeout
from .result import Result
from .stream import BLOCK_S, MAX_ENTRIES, START, StreamEntry, entries_of, no_more, of_redis
from .task import MAX_BYTES, Prepared, Task, TaskFields, prepare

if TYPE_CHECKING:
    import openai
    from typing_extensions import Unpack

_forking = threading.Lock()


def _after_fork() -> None:
    """Another thread may have held the lock when this process was forked."""
    global _forking
    _forking = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Redial:
    """Enqueues calls on one queue and waits for their results. Create one per process and share it among all threads.

    All waits share three connections to Redis and one thread, which starts with the first task and again after a fork.

    `url` is where Redis is: `REDIS_URL` by default, or 127.0.0.1:6379. `queue` and `prefix` are as the workers have them. All
    other arguments become fields of every task, unless the task has them: `Redial(limit="openai", timeout_ms=60_000)`.
    `max_task_bytes` is as the workers have it, and `program` is the command that `cancel` runs.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        queue: str = "default",
        prefix: str = "redial",
        max_task_bytes: int = MAX_BYTES,
        program: str = "redial",
        **defaults: Unpack[TaskFields],
    ) -> None:
        self._settings = Settings.new(url, queue, prefix, max_task_bytes, program, defaults)
        self._process = Process(self._settings)
        self._stop = weakref.finalize(self, Process.stop, self._process)
        self._stop.atexit = False

    def enqueue(self, task: str | Mapping[str, Any], *, reply: bool = True, **fields: Unpack[TaskFields]) -> Task:
        """Enqueues a call: a URL and the fields of its task, or a task.

        With `reply=False` the result is not pushed to this client, which saves traffic if nobody waits for it here.

        Raises `InvalidTask`, and `ConnectionFailed` if Redis did not confirm that it has the task.
        """
        return self._enqueue([self._prepare(task, fields, reply)])[0]

    def enqueue_many(
        self, tasks: Iterable[str | Mapping[str, Any]], *, reply: bool = True, **fields: Unpack[TaskFields]
    ) -> list[Task]:
        """Enqueues calls, in their order; `fields` apply to each of them. If one is invalid, none is enqueued.

        Raises `InvalidTask`, and `ConnectionFailed`, whose `enqueued` has the tasks that are known to have been enqueued.
        """
        return self._enqueue([self._prepare(task, fields, reply) for task in tasks])

    def wait(self, task: str | Task, *, timeout: float = 60, check: bool = True) -> Result:
        """Waits for a result, for `timeout` seconds at most. The task may have been enqueued by another program.

        Raises `CallFailed` if the call failed for good, unless `check` is false, and `WaitTimeout`.
        """
        timeout = check_timeout(timeout)
        looks = polls(task, self._settings.queue)
        process, id = self._current(), id_of(task)
        answer = process.register(id)
        try:
            result = self._await(process, id, answer, timeout, looks, is_new=False)
        finally:
            process.unregister(id, answer)
        return result.check() if check else result

    def call(
        self,
        task: str | Mapping[str, Any],
        *,
        timeout: float = 60,
        check: bool = True,
        **fields: Unpack[TaskFields],
    ) -> Result:
        """Enqueues a call and waits for its result. See `enqueue` and `wait`.

        After a `WaitTimeout` the call goes on. Set `ttl_ms` if nobody wants its result then.
        """
        timeout = check_timeout(timeout)
        prepared, process = self._prepare(task, fields, True), self._current()
        answer = process.register(prepared.id)
        try:
            process.push([prepared])
            result = self._await(process, prepared.id, answer, timeout, not prepared.replies, is_new=True)
        finally:
            process.unregister(prepared.id, answer)
        return result.check() if check else result

    def wait_many(self, tasks: Iterable[str | Task], *, timeout: float = 60, check: bool = False) -> list[Result]:
        """Waits for all results and returns them in the order of the tasks, by default also those of calls that failed.

        Raises `WaitTimeout`, whose `results` has what arrived in time, and `CallFailed` if `check` is true.
        """
        tasks = list(tasks)
        results: dict[str, Result] = {}
        for result in self.as_completed(tasks, timeout=timeout):
            results[result.id or ""] = result.check() if check else result
        return [results[id_of(task)] for task in tasks]

    def as_completed(self, tasks: Iterable[str | Task], *, timeout: float = 60) -> Iterator[Result]:
        """Yields results as they arrive, also those of calls that failed. `timeout` seconds are for all of them.

        Raises `WaitTimeout`, whose `results` has those that were yielded.
        """
        timeout = check_timeout(timeout)
        waits = {id_of(task): polls(task, self._settings.queue) for task in tasks}
        return self._as_completed(waits, timeout)

    def result(self, task: str | Task) -> Result | None:
        """The result of a task, or `None` if there is none, not yet or no longer. Neither waits nor raises `CallFailed`."""
        id = id_of(task)
        return self._current().look_up([id]).get(id)

    def cancel(self, task: str | Task, *, timeout: float = 60) -> bool:
        """Cancels a task wherever it is, by running the command `redial cancel`. Its result says `cancelled` then.

        Returns false if the task has ended before, or is not found. Raises `RedialError` if the command fails, and `WaitTimeout`.
        """
        id, timeout = id_of(task), check_timeout(timeout)
        arguments, environment = self._settings.cancel_command(id)
        try:
            ended = subprocess.run(arguments, env=environment, capture_output=True, timeout=timeout, check=False)
        except OSError as error:
            raise self._settings.no_program(error) from error
        except subprocess.TimeoutExpired as error:
            raise WaitTimeout([id], timeout) from error
        return self._settings.was_cancelled(id, ended.returncode, ended.stderr)

    def stream(self, task: str | Task, *, after: str = START, timeout: float = 60) -> Iterator[StreamEntry]:
        """The answer of a task with `stream`, while it arrives: from behind an entry, or all of it.

        A reader that loses its connection goes on where it was. Raises `StreamFailed` if the answer breaks off, and
        `WaitTimeout` if nothing more comes within `timeout` seconds. Each stream has a connection to Redis.
        """
        return self._stream(id_of(task), after, check_timeout(timeout))

    def transport(self, **options: Any) -> Any:
        """A transport for clients of httpx2 and httpx, and so for many SDKs, that makes each request through Redial.

        Options are those of `redial.transport.Transport`.
        """
        from .transport import Transport

        return Transport(self, **options)

    def openai(self, **options: Any) -> openai.OpenAI:
        """A client of OpenAI's SDK whose requests go through Redial. `options` are those of `openai.OpenAI`."""
        from .sdk import openai_client

        return openai_client(self, options)

    def close(self) -> None:
        """Ends all waits, the reader, and the connections."""
        self._process.stop()

    def __enter__(self) -> Redial:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _current(self) -> Process:
        if self._process.pid != os.getpid():
            with _forking:
                if self._process.pid != os.getpid():
                    self._stop.detach()
                    self._process = Process(self._settings)
                    self._stop = weakref.finalize(self, Process.stop, self._process)
                    self._stop.atexit = False
        return self._process

    def _prepare(self, task: str | Mapping[str, Any], fields: Mapping[str, Any], reply: bool) -> Prepared:
        return prepare(
            task,
            fields,
            self._settings.defaults,
            self._current().reply_to if reply else None,
            self._settings.max_task_bytes,
        )

    def _enqueue(self, prepared: list[Prepared]) -> list[Task]:
        process = self._current()
        if any(task.replies for task in prepared):
            process.start_reader()
        return process.push(prepared)

    def _await(self, process: Process, id: str, answer: Future[Result], timeout: float, looks: bool, is_new: bool) -> Result:
        """The answer. It is looked up once unless the task is new, and now and then if it may not come by itself."""
        deadline, step, trouble = time.monotonic() + timeout, FIRST_POLL_S, None
        look_now = not is_new
        while True:
            if look_now and not answer.done():
                try:
                    found = process.look_up([id]).get(id)
                    if found is not None:
                        return found
                except ConnectionFailed as error:
                    trouble = error  # The wait goes on, and the reader looks the result up once Redis is back.
            left = deadline - time.monotonic()
            try:
                return answer.result(max(0.0, min(left, step) if looks else left))
            except FutureTimeout:
                if time.monotonic() >= deadline:
                    raise WaitTimeout([id], timeout) from trouble
                look_now, step = True, min(2 * step, LAST_POLL_S)

    def _stream(self, id: str, after: str, timeout: float) -> Iterator[StreamEntry]:
        process, key = self._current(), self._settings.stream_key(id)
        connection, quiet_since, had_result = process.open_stream(), time.monotonic(), False
        try:
            while True:
                block = max(0.001, min(BLOCK_S, quiet_since + timeout - time.monotonic()))
                try:
                    read: Any = connection.xread({key: after}, count=MAX_ENTRIES, block=int(1_000 * block) or 1)
                    entries = entries_of(read)
                    for at, fields in entries:
                        entry = of_redis(id, at, fields)
                        if entry is None:
                            return
                        after = entry.id
                        yield entry
                        quiet_since = time.monotonic()  # Whoever takes long to read is not kept waiting.
                    result = None if entries else process.look_up([id]).get(id)
                    # What came together with the result was read before the second look.
                    if result is not None and had_result:
                        raise no_more(id, result.reason)
                    had_result = result is not None
                except (redis.ConnectionError, redis.TimeoutError, ConnectionFailed):
                    time.sleep(FIRST_POLL_S)  # It goes on where it was once Redis is back.
                except redis.RedisError as error:
                    raise ConnectionFailed(f"the stream of {id}: {error}") from error
                if time.monotonic() >= quiet_since + timeout:
                    raise WaitTimeout([id], timeout)
        finally:
            connection.close()

    def _as_completed(self, waits: dict[str, bool], timeout: float) -> Iterator[Result]:
        process, deadline, step = self._current(), time.monotonic() + timeout, FIRST_POLL_S
        arrived: queues.SimpleQueue[Future[Result]] = queues.SimpleQueue()
        answers = {id: process.register(id) for id in waits}
        yielded: dict[str, Result] = {}
        try:
            for answer in answers.values():
                answer.add_done_callback(arrived.put)
            look_for = list(waits)
            while len(yielded) < len(waits):
                try:
                    found = list(process.look_up(look_for).values())
                except ConnectionFailed:
                    found = []  # The reader looks up what is missing once Redis is back.
                left = deadline - time.monotonic()
                polled = [id for id, looks in waits.items() if looks and id not in yielded]
                if not found:
                    try:
                        found = [arrived.get(timeout=max(0.0, min(left, step) if polled else left)).result()]
                    except queues.Empty:
                        step = min(2 * step, LAST_POLL_S)
                for result in found:
                    if result.id is not None and result.id not in yielded:
                        yielded[result.id] = result
                        yield result
                look_for = [] if found else [id for id in polled if id not in yielded]
                if not found and time.monotonic() >= deadline:
                    raise WaitTimeout([id for id in waits if id not in yielded], timeout, yielded)
        finally:
            for id, answer in answers.items():
                process.unregister(id, answer)
