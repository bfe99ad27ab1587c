"""The client for asyncio."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import redis

from ._aio_reader import Loop
from ._settings import FIRST_POLL_S, LAST_POLL_S, Settings, check_timeout, id_of, polls
from .errors import ConnectionFailed, WaitTimeout
from .result import Result
from .stream import BLOCK_S, MAX_ENTRIES, START, StreamEntry, entries_of, no_more, of_redis
from .task import MAX_BYTES, Prepared, Task, TaskFields, prepare

if TYPE_CHECKING:
    import openai
    from typing_extensions import Unpack


class AsyncRedial:
    """Enqueues calls on one queue and waits for their results. Create one per process and share it among all tasks.

    All waits in an event loop share three connections to Redis and one reader, which starts with the first task. Each event loop
    has its own. The arguments are those of `Redial`.
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
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Loop] = weakref.WeakKeyDictionary()

    async def enqueue(self, task: str | Mapping[str, Any], *, reply: bool = True, **fields: Unpack[TaskFields]) -> Task:
        """Enqueues a call: a URL and the fields of its task, or a task.

        With `reply=False` the result is not pushed to this client, which saves traffic if nobody waits for it here.

        Raises `InvalidTask`, and `ConnectionFailed` if Redis did not confirm that it has the task.
        """
        return (await self._enqueue([self._prepare(task, fields, reply)]))[0]

    async def enqueue_many(
        self, tasks: Iterable[str | Mapping[str, Any]], *, reply: bool = True, **fields: Unpack[TaskFields]
    ) -> list[Task]:
        """Enqueues calls, in their order; `fields` apply to each of them. If one is invalid, none is enqueued.

        Raises `InvalidTask`, and `ConnectionFailed`, whose `enqueued` has the tasks that are known to have been enqueued.
        """
        return await self._enqueue([self._prepare(task, fields, reply) for task in tasks])

    async def wait(self, task: str | Task, *, timeout: float = 60, check: bool = True) -> Result:
        """Waits for a result, for `timeout` seconds at most. The task may have been enqueued by another program.

        Raises `CallFailed` if the call failed for good, unless `check` is false, and `WaitTimeout`.
        """
        timeout = check_timeout(timeout)
        looks = polls(task, self._settings.queue)
        loop, id = self._current(), id_of(task)
        answer = loop.register(id)
        try:
            result = await self._await(loop, id, answer, timeout, looks, is_new=False)
        finally:
            loop.unregister(id, answer)
        return result.check() if check else result

    async def call(
        self,
        task: str | Mapping[str, Any],
        *,
        timeout: float = 60,
        check: bool = True,
        **fields: Unpack[TaskFields],
    ) -> Result:
        """Enqueues a call and waits for its result. See `enqueue` and `wait`.

        After a `WaitTimeout`, or if the asyncio task is cancelled, the call goes on. Set `ttl_ms` if nobody wants its result then.
        """
        timeout = check_timeout(timeout)
        prepared, loop = self._prepare(task, fields, True), self._current()
        answer = loop.register(prepared.id)
        try:
            await loop.push([prepared])
            result = await self._await(loop, prepared.id, answer, timeout, not prepared.replies, is_new=True)
        finally:
            loop.unregister(prepared.id, answer)
        return result.check() if check else result

    async def wait_many(self, tasks: Iterable[str | Task], *, timeout: float = 60, check: bool = False) -> list[Result]:
        """Waits for all results and returns them in the order of the tasks, by default also those of calls that failed.

        Raises `WaitTimeout`, whose `results` has what arrived in time, and `CallFailed` if `check` is true.
        """
        tasks = list(tasks)
        results: dict[str, Result] = {}
        async for result in self.as_completed(tasks, timeout=timeout):
            results[result.id or ""] = result.check() if check else result
        return [results[id_of(task)] for task in tasks]

    def as_completed(self, tasks: Iterable[str | Task], *, timeout: float = 60) -> AsyncIterator[Result]:
        """Yields results as they arrive, also those of calls that failed. `timeout` seconds are for all of them.

        Raises `WaitTimeout`, whose `results` has those that were yielded.
        """
        timeout = check_timeout(timeout)
        return self._as_completed({id_of(task): polls(task, self._settings.queue) for task in tasks}, timeout)

    async def result(self, task: str | Task) -> Result | None:
        """The result of a task, or `None` if there is none, not yet or no longer. Neither waits nor raises `CallFailed`."""
        id = id_of(task)
        return (await self._current().look_up([id])).get(id)

    async def cancel(self, task: str | Task, *, timeout: float = 60) -> bool:
        """Cancels a task wherever it is, by running the command `redial cancel`. Its result says `cancelled` then.

        Returns false if the task has ended before, or is not found. Raises `RedialError` if the command fails, and `WaitTimeout`.
        """
        id, timeout = id_of(task), check_timeout(timeout)
        arguments, environment = self._settings.cancel_command(id)
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(*arguments, env=environment, stdout=null, stderr=pipe)
        except OSError as error:
            raise self._settings.no_program(error) from error
        try:
            _, message = await asyncio.wait_for(process.communicate(), timeout)
        except asyncio.TimeoutError as error:
            raise WaitTimeout([id], timeout) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return self._settings.was_cancelled(id, process.returncode, message)

    def stream(self, task: str | Task, *, after: str = START, timeout: float = 60) -> AsyncIterator[StreamEntry]:
        """The answer of a task with `stream`, while it arrives: from behind an entry, or all of it.

        A reader that loses its connection goes on where it was. Raises `StreamFailed` if the answer breaks off, and
        `WaitTimeout` if nothing more comes within `timeout` seconds. Each stream has a connection to Redis.
        """
        return self._stream(id_of(task), after, check_timeout(timeout))

    def transport(self, **options: Any) -> Any:
        """A transport for async clients of httpx2 and httpx, and so for many SDKs, that makes each request through Redial.

        Options are those of `redial.transport.AsyncTransport`.
        """
        from .transport import AsyncTransport

        return AsyncTransport(self, **options)

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        """A client of OpenAI's SDK whose requests go through Redial. `options` are those of `openai.AsyncOpenAI`."""
        from .sdk import async_openai_client

        return async_openai_client(self, options)

    async def close(self) -> None:
        """Ends all waits, the reader and the connections of this event loop."""
        loop = self._current()
        await loop.stop()

    async def __aenter__(self) -> AsyncRedial:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def _current(self) -> Loop:
        running = asyncio.get_running_loop()
        loop = self._loops.get(running)
        if loop is None or loop.pid != os.getpid():
            loop = self._loops[running] = Loop(self._settings)
        return loop

    def _prepare(self, task: str | Mapping[str, Any], fields: Mapping[str, Any], reply: bool) -> Prepared:
        return prepare(
            task,
            fields,
            self._settings.defaults,
            self._current().reply_to if reply else None,
            self._settings.max_task_bytes,
        )

    async def _enqueue(self, prepared: list[Prepared]) -> list[Task]:
        loop = self._current()
        if any(task.replies for task in prepared):
            loop.start_reader()
        return await loop.push(prepared)

    async def _await(
        self, loop: Loop, id: str, answer: asyncio.Future[Result], timeout: float, looks: bool, is_new: bool
    ) -> Result:
        """The answer. It is looked up once unless the task is new, and now and then if it may not come by itself."""
        deadline, step, trouble = time.monotonic() + timeout, FIRST_POLL_S, None
        look_now = not is_new
        while True:
            if look_now and not answer.done():
                try:
                    found = (await loop.look_up([id])).get(id)
                    if found is not None:
                        return found
                except ConnectionFailed as error:
                    trouble = error  # The wait goes on, and the reader looks the result up once Redis is back.
            left = deadline - time.monotonic()
            await asyncio.wait([answer], timeout=max(0.0, min(left, step) if looks else left))
            if answer.done():
                return answer.result()
            if time.monotonic() >= deadline:
                raise WaitTimeout([id], timeout) from trouble
            look_now, step = True, min(2 * step, LAST_POLL_S)

    async def _stream(self, id: str, after: str, timeout: float) -> AsyncIterator[StreamEntry]:
        loop, key = self._current(), self._settings.stream_key(id)
        connection, quiet_since, had_result = loop.open_stream(), time.monotonic(), False
        try:
            while True:
                block = max(0.001, min(BLOCK_S, quiet_since + timeout - time.monotonic()))
                try:
                    read: Any = await connection.xread({key: after}, count=MAX_ENTRIES, block=int(1_000 * block) or 1)
                    entries = entries_of(read)
                    for at, fields in entries:
                        entry = of_redis(id, at, fields)
                        if entry is None:
                            return
                        after = entry.id
                        yield entry
                        quiet_since = time.monotonic()  # Whoever takes long to read is not kept waiting.
                    result = None if entries else (await loop.look_up([id])).get(id)
                    # What came together with the result was read before the second look.
                    if result is not None and had_result:
                        raise no_more(id, result.reason)
                    had_result = result is not None
                except (redis.ConnectionError, redis.TimeoutError, ConnectionFailed):
                    await asyncio.sleep(FIRST_POLL_S)  # It goes on where it was once Redis is back.
                except redis.RedisError as error:
                    raise ConnectionFailed(f"the stream of {id}: {error}") from error
                if time.monotonic() >= quiet_since + timeout:
                    raise WaitTimeout([id], timeout)
        finally:
            await connection.aclose()

    async def _as_completed(self, waits: dict[str, bool], timeout: float) -> AsyncIterator[Result]:
        loop, deadline, step = self._current(), time.monotonic() + timeout, FIRST_POLL_S
        arrived: asyncio.Queue[asyncio.Future[Result]] = asyncio.Queue()
        answers = {id: loop.register(id) for id in waits}
        yielded: dict[str, Result] = {}
        try:
            for answer in answers.values():
                answer.add_done_callback(arrived.put_nowait)
            look_for = list(waits)
            while len(yielded) < len(waits):
                try:
                    found = list((await loop.look_up(look_for)).values())
                except ConnectionFailed:
                    found = []  # The reader looks up what is missing once Redis is back.
                left = deadline - time.monotonic()
                polled = [id for id, looks in waits.items() if looks and id not in yielded]
                if not found:
                    sleep = max(0.0, min(left, step) if polled else left)
                    try:
                        found = [(await asyncio.wait_for(arrived.get(), sleep)).result()]
                    except asyncio.TimeoutError:
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
                loop.unregister(id, answer)
