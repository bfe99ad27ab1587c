"""What the sync and the asyncio client of a gateway have in common: requests, responses, and the events of a stream."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from .errors import ConnectionFailed, GatewayRefused, RedialError
from .result import Result
from .task import Prepared, Task, prepare

REQUEST_WAIT_S = 30.0
"""How long one request waits for a result. The next one goes on."""
MARGIN_S = 15.0
"""How much longer than that a response may take."""
MAX_REQUESTS = 64
"""How many requests of one `wait_many` wait at a time."""
MAX_TASKS = 1_000
"""How many tasks the gateway takes in one request."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 2.0
"""How long to pause between attempts while the gateway is away: it grows from one to the other."""


def library() -> Any:
    """The HTTP library that is installed: httpx2, on which new SDKs are built, or httpx."""
    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError("a gateway is spoken to with httpx: pip install 'redial-client[gateway]'")


@dataclass(frozen=True)
class GatewaySettings:
    """The arguments of a client of a gateway."""

    url: str
    token: str | None
    queue: str | None
    max_task_bytes: int
    defaults: Mapping[str, Any]

    @classmethod
    def new(
        cls, url: str, token: str | None, queue: str | None, max_task_bytes: int, defaults: Mapping[str, Any]
    ) -> GatewaySettings:
        """Checks the arguments. Raises `ValueError`."""
        if not re.match(r"https?://[^/?#]", url):
            raise ValueError(f"url: http:// or https:// of a gateway, not {url}")
        return cls(url.rstrip("/"), token, queue, max_task_bytes, dict(defaults))

    def client_options(self) -> dict[str, Any]:
        """The options of every HTTP client. Each request has its own limit."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        limits = library().Limits(max_connections=None, max_keepalive_connections=MAX_REQUESTS)
        return {"base_url": self.url, "headers": headers, "timeout": MARGIN_S, "limits": limits}

    def prepare(self, task: str | Mapping[str, Any], fields: Mapping[str, Any]) -> Prepared:
        """Checks a task."""
        return prepare(task, fields, self.defaults, None, self.max_task_bytes)

    def tasks_path(self) -> str:
        """Where tasks are enqueued."""
        return self._with_query("/v1/tasks", {})

    def path(self, id: str, more: str = "", wait: float | None = None) -> str:
        """Where a task is."""
        return self._with_query(f"/v1/tasks/{quote(id, safe='')}{more}", {} if wait is None else {"wait": f"{wait:.3f}"})

    def _with_query(self, path: str, query: dict[str, str]) -> str:
        if self.queue is not None:
            query["queue"] = self.queue
        return f"{path}?{urlencode(query)}" if query else path


def body_of(tasks: Sequence[Prepared]) -> bytes:
    """Tasks as one request."""
    return b"[" + b",".join(task.line for task in tasks) + b"]"


def enqueued(status: int, content: bytes) -> list[Task]:
    """The tasks that a response confirms. Raises `GatewayRefused`."""
    if status >= 300:
        raise refusal(status, content)
    return [Task(task["id"], task["queue"], False) for task in json.loads(content)]


def result_of(status: int, content: bytes) -> Result | None:
    """The result in a response, if it has one. Raises `GatewayRefused`."""
    if status == 200:
        return Result.parse(content)
    if status in (202, 404):
        return None
    raise refusal(status, content)


def was_cancelled(status: int, content: bytes) -> bool:
    """What the response to a cancellation says. Raises `GatewayRefused`."""
    if status in (404, 409):
        return False
    if status >= 300:
        raise refusal(status, content)
    return True


def refusal(status: int, content: bytes) -> GatewayRefused:
    """What the gateway says when it does not do what it was asked for (RFC 9457)."""
    text = content.decode("utf-8", "replace")
    try:
        problem = json.loads(text)
        return GatewayRefused(status, problem.get("code"), problem.get("detail") or "")
    except (ValueError, AttributeError):
        return GatewayRefused(status, None, text[:200])  # Something before the gateway answered.


def is_passing(error: RedialError) -> bool:
    """Whether a later request may succeed: the gateway is away, restarts, or Redis is away."""
    return isinstance(error, ConnectionFailed) or (isinstance(error, GatewayRefused) and error.status >= 500)


class Events:
    """Server-sent events, as the gateway writes them: each has an id, a type and one line of data."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[tuple[str, str, str]]:
        """The events that end in the next bytes: id, type and data."""
        *blocks, self._rest = (self._rest + piece).split(b"\n\n")
        for block in blocks:
            lines = (line.partition(": ") for line in block.decode().split("\n"))
            fields = {name: value for name, _, value in lines}
            if "event" in fields:
                yield fields.get("id", ""), fields["event"], fields.get("data", "")
