"""The sync client within one process: connections, those who wait, and the thread that reads replies for all of them."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ._settings import CHECK_S, COMMAND_CONNECTIONS, COMMAND_S, MAX_IDS, MAX_REPLIES, Settings, batches, chunks
from .errors import ClientClosed, ConnectionFailed, RedialError
from .result import Result
from .task import Prepared, Task

log = logging.getLogger("redial")


class Process:
    """Made anew in a process that was forked: neither connections nor threads may be taken along."""

    def __init__(self, settings: Settings) -> None:
        self.pid = os.getpid()
        self.settings = settings
        self.reply_to = settings.new_reply_list()
        self.redis = self._connect(COMMAND_CONNECTIONS)
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Future[Result]]] = {}
        self._reader: threading.Thread | None = None
        self._stopped = threading.Event()

    def _connect(self, connections: int, **options: Any) -> redis.Redis:
        pool = redis.BlockingConnectionPool.from_url(
            self.settings.url,
            max_connections=connections,
            timeout=30,
            retry=Retry(NoBackoff(), 0),
            **{**self.settings.connection(), **options},
        )
        return redis.Redis(connection_pool=pool)

    def command(self, what: str, run: Callable[[], Any]) -> Any:
        """Runs a command; its errors are those of this package."""
        self._check_open()
        try:
            return run()
        except Exception as error:
            # Closing the client closes the connections of commands that are on their way.
            # They may then fail with any error, such as that of a closed file.
            self._check_open()
            if isinstance(error, redis.RedisError):
                raise ConnectionFailed(f"{what}: {error}") from error
            raise

    def _check_open(self) -> None:
        if self._stopped.is_set():
            raise ClientClosed("this client was closed")

    def push(self, tasks: Sequence[Prepared]) -> list[Task]:
        """Pushes tasks, in their order."""
        pushed: list[Task] = []
        for batch in batches(tasks):
            try:
                self.command("the tasks could not be enqueued", functools.partial(self._push, batch))
            except ConnectionFailed as error:
                error.enqueued = pushed
                raise
            pushed += [self.settings.handle(task) for task in batch]
        return pushed

    def _push(self, batch: Sequence[Prepared]) -> None:
        lines = [task.line for task in batch]
        replaced = [self.settings.result_key(task.id) for task in batch if task.replaces]
        if not replaced:
            self.redis.lpush(self.settings.waiting, *lines)
            return
        # Otherwise a wait could return the result of an earlier task with the same id.
        commands = self.redis.pipeline(transaction=True)
        commands.delete(*replaced)
        commands.lpush(self.settings.waiting, *lines)
        commands.execute()

    def look_up(self, ids: Sequence[str], connection: redis.Redis | None = None) -> dict[str, Result]:
        """The results that exist."""
        found: dict[str, Result] = {}
        client = self.redis if connection is None else connection
        for some in chunks(ids, MAX_IDS):
            keys = [self.settings.result_key(id) for id in some]
            lines = client.mget(keys) if connection else self.command("results", functools.partial(client.mget, keys))
            found.update((id, Result.parse(line)) for id, line in zip(some, lines) if line is not None)
        return found

    def open_stream(self) -> redis.Redis:
        """A connection that may block, for one reader of a stream. Close it."""
        self._check_open()
        return self._connect(1, socket_timeout=2 * COMMAND_S)

    def register(self, id: str) -> Future[Result]:
        """Someone waits for this task from now on."""
        answer: Future[Result] = Future()
        with self._lock:
            self._check_open()
            self._waiting.setdefault(id, []).append(answer)
        self.start_reader()
        return answer

    def unregister(self, id: str, answer: Future[Result]) -> None:
        """It waits no longer."""
        with self._lock:
            answers = self._waiting.get(id, [])
            if answer in answers:
                answers.remove(answer)
            if not answers:
                self._waiting.pop(id, None)

    def start_reader(self) -> None:
        """Starts the reader with the first task that is to reply."""
        with self._lock:
            if self._reader is None and not self._stopped.is_set():
                self._reader = threading.Thread(target=self._read, name="redial-reader", daemon=True)
                self._reader.start()

    def waiting(self) -> list[str]:
        """The ids of the tasks that are waited for."""
        with self._lock:
            return list(self._waiting)

    def stop(self) -> None:
        """Ends the reader and every wait."""
        self._stopped.set()
        self._end(ClientClosed("this client was closed"))
        self.redis.close()
        if self.pid == os.getpid():
            self.redis.connection_pool.disconnect()

    def _read(self) -> None:
        connection = self._connect(1, socket_timeout=2 * CHECK_S)
        check_at, pause = 0.0, 0.05
        while not self._stopped.is_set():
            try:
                if time.monotonic() >= check_at:
                    for result in self.look_up(self.waiting(), connection).values():
                        self._resolve(result)
                    check_at = time.monotonic() + CHECK_S
                for line in self._next(connection):
                    self._receive(line)
                pause = 0.05
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
                self._end(ConnectionFailed(f"Redis refuses to deliver results: {error}"))
                self._stopped.wait(1)
            except redis.RedisError as error:
                # A reply may have been lost with the connection: look up what is waited for as soon as Redis is back.
                check_at = 0.0
                log.debug("waiting for Redis: %s", error)
                self._stopped.wait(pause)
                pause = min(2 * pause, 1)
            except Exception as error:
                # The reader serves all: whatever one result does to it, it goes on.
                log.exception("a result could not be read")
                self._end(RedialError(f"a result could not be read: {error}"))
                check_at = time.monotonic() + CHECK_S
        connection.close()
        connection.connection_pool.disconnect()

    def _next(self, connection: redis.Redis) -> list[bytes]:
        reply: Any = connection.brpop([self.reply_to], timeout=int(CHECK_S))
        if reply is None:
            return []
        more: Any = connection.rpop(self.reply_to, MAX_REPLIES)
        return [reply[1], *(more or [])]

    def _receive(self, line: bytes) -> None:
        try:
            self._resolve(Result.parse(line))
        except RedialError as error:
            log.warning("%s on the list %s", error, self.reply_to)

    def _resolve(self, result: Result) -> None:
        with self._lock:
            answers = self._waiting.pop(result.id or "", [])
        for answer in answers:
            try:
                answer.set_result(result)
            except InvalidStateError:
                pass  # It was ended meanwhile.

    def _end(self, error: Exception) -> None:
        with self._lock:
            answers = [answer for answers in self._waiting.values() for answer in answers]
            self._waiting.clear()
        for answer in answers:
            if not answer.done():
                answer.set_exception(error)
