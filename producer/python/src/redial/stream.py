"""The answer of a task while it arrives."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import RedialError, StreamFailed

START = "0-0"
"""Before the first entry of any stream."""
BLOCK_S = 2.0
"""How long one command waits for entries. In between, the result is looked up: a task may end without a stream."""
MAX_ENTRIES = 100
"""How many entries are read at a time."""


@dataclass(frozen=True)
class StreamEntry:
    """A part of an answer."""

    id: str
    """Its id, from behind which a reader can go on."""
    type: str
    """`head`: the answer begins, and whatever came before belongs to an attempt that broke off. `data`: bytes of the body.
    `restart`: forget what came, since the attempt broke off and there will be another one."""
    data: bytes = field(default=b"", repr=False)
    """The bytes of `data`."""
    status: int | None = None
    """The HTTP status, of `head`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The headers, of `head`."""
    why: str | None = None
    """Why there is another attempt, of `restart`."""


def entry(task: str, id: str, type: str, data: Callable[[], Any]) -> StreamEntry | None:
    """An entry as it is in Redis or in an event of the gateway; `None` behind the last one. Raises `StreamFailed`."""
    if type == "data":
        return StreamEntry(id, type, data=data())
    if type == "end":
        return None
    if type == "head":
        values = data()
        return StreamEntry(id, type, status=values["status"], headers=values.get("headers") or {})
    if type == "restart":
        return StreamEntry(id, type, why=data()["why"])
    if type == "error":
        values = data()
        raise StreamFailed(task, values.get("reason"), values["error"])
    raise RedialError(f"task {task}: its stream has an entry of the type {type}, which this version does not know")


def of_redis(task: str, id: bytes, fields: Mapping[bytes, bytes]) -> StreamEntry | None:
    """An entry of a Redis Stream."""
    type, data = fields.get(b"t", b"").decode(), fields.get(b"d", b"")
    return entry(task, id.decode(), type, lambda: data if type == "data" else json.loads(data))


def entries_of(read: Any) -> list[tuple[bytes, Mapping[bytes, bytes]]]:
    """The entries in a reply to XREAD, in either version of Redis's protocol."""
    if not read:
        return []
    found = next(iter(read.values())) if isinstance(read, dict) else read[0][1]
    # RESP3 has them in one more list.
    return found[0] if found and isinstance(found[0], list) else found


def of_event(task: str, id: str, type: str, data: str) -> StreamEntry | None:
    """An event of the gateway."""

    def parsed() -> Any:
        values = json.loads(data)
        if type != "data":
            return values
        return base64.b64decode(values["base64"]) if "base64" in values else values["text"].encode("utf-8", "surrogatepass")

    return entry(task, id, type, parsed)


def no_more(task: str, reason: str | None) -> StreamFailed:
    """The error if the task has a result and no end of a stream."""
    return StreamFailed(task, reason, "the task has ended, and no more of it is in a stream: read its result")
