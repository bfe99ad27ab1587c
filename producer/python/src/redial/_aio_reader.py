"""The asyncio client within one event loop: connections, those who wait, and the task that reads replies for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Sequence
from typing import Any

import redis
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ._settings import CHECK_S, COMMAND_CONNECTIONS, COMMAND_S, MAX_IDS, MAX_REPLIES, Settings, batches, chunks
from .errors import ClientClosed, ConnectionFailed, RedialError
from .result import Result
from .task import Prepared, Task

log = logging.getLogger("redial")


class Loop:
    """Made anew for each event loop, and in a process that was forked: connections belong to one loop."""

    def __init__(self, settings: Settings) -> None:
        self.pid = os.getpid()
        self.settings = settings
        self.reply_to = settings.new_reply_list()
        self.redis = self._connect(COMMAND_CONNECTIONS)
        self._waiting: dict[str, list[asyncio.Future[Result]]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._is_stopped = False

    def _connect(self, connections: int, **options: Any) -> aioredis.Redis:
        pool = aioredis.BlockingConnectionPool.from_url(
            self.settings.url,
            max_connections=connections,
            timeout=30,
            retry=Retry(NoBackoff(), 0),
            **{**self.settings.connection(), **options},
        )
        return aioredis.Redis(connection_pool=pool)

    async def command(self, what: str, reply: Awaitable[Any]) -> Any:
        """Awaits the reply to a command; its errors are those of this package."""
        try:
            return await _apart(reply)
        except Exception as error:
            # Closing the client closes the connections of commands that are on their way.
            # They may then fail with any error, such as that of a closed file.
            self._check_open()
            if isinstance(error, redis.RedisError):
                raise ConnectionFailed(f"{what}: {error}") from error
            raise

    def _check_open(self) -> None:
        if self._is_stopped:
            raise ClientClosed("this client was closed")

    async def push(self, tasks: Sequence[Prepared]) -> list[Task]:
        """Pushes tasks, in their order."""
        self._check_open()
        pushed: list[Task] = []
        for batch in batches(tasks):
            try:
                await self.command("the tasks could not be enqueued", self._push(batch))
            except ConnectionFailed as error:
                error.enqueued = pushed
                raise
            pushed += [self.settings.handle(task) for task in batch]
        return pushed

    async def _push(self, batch: Sequence[Prepared]) -> None:
        lines = [task.line for task in batch]
        replaced = [self.settings.result_key(task.id) for task in batch if task.replaces]
        if not replaced:
            await self.redis.lpush(self.settings.waiting, *lines)
            return
        # Otherwise a wait could return the result of an earlier task with the same id.
        commands = self.redis.pipeline(transaction=True)
        commands.delete(*replaced)
        commands.lpush(self.settings.waiting, *lines)
        await commands.execute()

    async def look_up(self, ids: Sequence[str], connection: aioredis.Redis | None = None) -> dict[str, Result]:
        """The results that exist."""
        found: dict[str, Result] = {}
        for some in chunks(ids, MAX_IDS):
            keys = [self.settings.result_key(id) for id in some]
            if connection is not None:
                lines: Any = await _apart(connection.mget(keys))
            else:
                self._check_open()
                lines = await self.command("results", self.redis.mget(keys))
            found.update((id, Result.parse(line)) for id, line in zip(some, lines) if line is not None)
        return found

    def open_stream(self) -> aioredis.Redis:
        """A connection that may block, for one reader of a stream. Close it."""
        self._check_open()
        return self._connect(1, socket_timeout=2 * COMMAND_S)

    def register(self, id: str) -> asyncio.Future[Result]:
        """Someone waits for this task from now on."""
        self._check_open()
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id, []).append(answer)
        self.start_reader()
        return answer

    def unregister(self, id: str, answer: asyncio.Future[Result]) -> None:
        """It waits no longer."""
        answers = self._waiting.get(id, [])
        if answer in answers:
            answers.remove(answer)
        if not answers:
            self._waiting.pop(id, None)
        if answer.done() and not answer.cancelled():
            answer.exception()  # Nobody is left to ask for it.
        answer.cancel()

    def start_reader(self) -> None:
        """Starts the reader with the first task that is to reply."""
        if self._reader is None or self._reader.done():
            self._reader = asyncio.get_running_loop().create_task(self._read(), name="redial-reader")

    async def stop(self) -> None:
        """Ends the reader and every wait."""
        self._is_stopped = True
        self._end(ClientClosed("this client was closed"))
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        await _close(self.redis)

    async def _read(self) -> None:
        connection = self._connect(1, socket_timeout=2 * CHECK_S)
        check_at, pause = 0.0, 0.05
        try:
            while not self._is_stopped:
                try:
                    if time.monotonic() >= check_at:
                        for result in (await self.look_up(list(self._waiting), connection)).values():
                            self._resolve(result)
                        check_at = time.monotonic() + CHECK_S
                    for line in await self._next(connection):
                        self._receive(line)
                    pause = 0.05
                except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
                    self._end(ConnectionFailed(f"Redis refuses to deliver results: {error}"))
                    await asyncio.sleep(1)
                except redis.RedisError as error:
                    # A reply may have been lost with the connection: look up what is waited for as soon as Redis is back.
                    check_at = 0.0
                    log.debug("waiting for Redis: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 1)
                except Exception as error:
                    # The reader serves all: whatever one result does to it, it goes on.
                    log.exception("a result could not be read")
                    self._end(RedialError(f"a result could not be read: {error}"))
                    check_at = time.monotonic() + CHECK_S
        finally:
            # With its loop, the client ends too: nobody is left who could close its connections.
            await _close(connection)
            if not self._is_stopped:
                await _close(self.redis)

    async def _next(self, connection: aioredis.Redis) -> list[bytes]:
        reply: Any = await _apart(connection.brpop([self.reply_to], timeout=int(CHECK_S)))
        if reply is None:
            return []
        more: Any = await _apart(connection.rpop(self.reply_to, MAX_REPLIES))
        return [reply[1], *(more or [])]

    def _receive(self, line: bytes) -> None:
        try:
            self._resolve(Result.parse(line))
        except RedialError as error:
            log.warning("%s on the list %s", error, self.reply_to)

    def _resolve(self, result: Result) -> None:
        for answer in self._waiting.pop(result.id or "", []):
            if not answer.done():
                answer.set_result(result)

    def _end(self, error: Exception) -> None:
        answers = [answer for answers in self._waiting.values() for answer in answers]
        self._waiting.clear()
        for answer in answers:
            if not answer.done():
                answer.set_exception(error)


async def _apart(command: Awaitable[Any]) -> Any:
    """Runs a command as a task of its own.

    The package `redis` may take a cancellation for a timeout if the reply comes at the same moment: then whoever cancelled would
    wait for ever.
    """
    running = asyncio.ensure_future(command)
    running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    try:
        await asyncio.wait([running])
    finally:
        running.cancel()
    return running.result()


async def _close(client: aioredis.Redis) -> None:
    with contextlib.suppress(redis.RedisError, OSError, RuntimeError):
        await client.connection_pool.disconnect()
