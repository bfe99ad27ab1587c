"""What the sync and the asyncio client have in common: keys, settings, and the command that cancels."""

from __future__ import annotations

import math
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import RedialError
from .task import Prepared, Task

CHECK_S = 5.0
"""How often a reader looks up the results that are waited for: a reply is lost if its connection breaks on the way."""
COMMAND_S = 5.0
"""How long Redis may take to answer a command."""
COMMAND_CONNECTIONS = 2
"""How many connections send commands. The reader has one more."""
MAX_REPLIES = 16
"""How many replies the reader takes at a time. Each may have 10 MiB."""
MAX_IDS = 100
"""How many results are looked up by one command."""
FIRST_POLL_S, LAST_POLL_S = 0.05, 1.0
"""How long a wait sleeps between two looks for a result that is not pushed to this client: it grows from one to the other."""

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The arguments of a client."""

    url: str
    queue: str
    prefix: str
    max_task_bytes: int
    program: str
    defaults: Mapping[str, Any]

    @classmethod
    def new(
        cls,
        url: str | None,
        queue: str,
        prefix: str,
        max_task_bytes: int,
        program: str,
        defaults: Mapping[str, Any],
    ) -> Settings:
        """Checks the arguments. Raises `ValueError`."""
        url = url or os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379"
        if not re.match(r"(redis|rediss|unix)://", url):
            scheme = url.partition("://")[0]
            raise ValueError(f"url: redis://, rediss:// or unix:// of one Redis node, not {scheme}://")
        if not re.fullmatch(r"[A-Za-z0-9._/-]{1,100}", queue):
            raise ValueError(f"queue: 1 to 100 letters, digits, `.`, `_`, `-` or `/`, not {queue!r}")
        return cls(url, queue, prefix, max_task_bytes, program, dict(defaults))

    @property
    def waiting(self) -> str:
        """The list of waiting tasks."""
        return f"{self.prefix}:{{{self.queue}}}"

    def result_key(self, id: str) -> str:
        """The key of a task's result."""
        return f"{self.waiting}:result:{id}"

    def stream_key(self, id: str) -> str:
        """The stream of a task's answer."""
        return f"{self.waiting}:stream:{id}"

    def new_reply_list(self) -> str:
        """A list for the replies to one reader alone, in the hash slot of the queue."""
        return f"answers:{{{self.queue}}}:{uuid.uuid4()}"

    def connection(self) -> dict[str, Any]:
        """The options of every connection. Nothing is retried by the package `redis`: a push may not be made twice."""
        options: dict[str, Any] = {"socket_connect_timeout": COMMAND_S, "socket_timeout": COMMAND_S}
        if not self.url.startswith("unix"):
            options["socket_keepalive"] = True
        return options

    def handle(self, prepared: Prepared) -> Task:
        """What the caller gets for a task that was enqueued."""
        return Task(prepared.id, self.queue, prepared.replies)

    def cancel_command(self, id: str) -> tuple[list[str], dict[str, str]]:
        """The command that cancels a task, and its environment: a password has no place on a command line."""
        arguments = [self.program, "cancel", "--json", "--queue", self.queue, "--", id]
        return arguments, {**os.environ, "REDIS_URL": self.url, "REDIAL_PREFIX": self.prefix}

    def was_cancelled(self, id: str, code: int | None, message: bytes) -> bool:
        """What its exit code says."""
        if code == 0:
            return True
        if code == 3:
            return False
        raise RedialError(f"{self.program} cancel {id}: exit code {code}: {message.decode(errors='replace').strip()}")

    def no_program(self, error: OSError) -> RedialError:
        """The error if the command cannot be started."""
        return RedialError(
            f"cancelling runs the command `{self.program}`, which cannot be started: {error}. "
            "Put it on the PATH, or give its path as `program`"
        )


def id_of(task: str | Task) -> str:
    """The id of a task that the caller names by its id or by what `enqueue` returned."""
    return task if isinstance(task, str) else task.id


def polls(task: str | Task, queue: str) -> bool:
    """Whether the result may have to be looked up, since it is not known to be pushed to this client."""
    if isinstance(task, Task) and task.queue != queue:
        raise ValueError(f"task {task.id} is on the queue {task.queue}, and this client's queue is {queue}")
    return isinstance(task, str) or not task.replies


def check_timeout(timeout: float) -> float:
    """Every wait has an end."""
    if not isinstance(timeout, (int, float)) or not math.isfinite(timeout) or timeout < 0:
        raise ValueError(f"timeout: a number of seconds, not {timeout!r}; every wait has a limit")
    return float(timeout)


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in groups of this size."""
    return (items[at : at + size] for at in range(0, len(items), size))


def batches(tasks: Iterable[Prepared]) -> Iterator[list[Prepared]]:
    """Tasks in groups that Redis takes at once without holding up others for long."""
    batch: list[Prepared] = []
    size = 0
    for task in tasks:
        if batch and (len(batch) == 256 or size + len(task.line) > 1 << 20):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += len(task.line)
    if batch:
        yield batch
