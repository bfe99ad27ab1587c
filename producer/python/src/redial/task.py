"""A task as JSON: its fields, and the checks that need no worker."""

from __future__ import annotations

import base64
import difflib
import json
import re
import time
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from ._trace import traceparent
from .errors import InvalidTask, UnknownFieldWarning

MAX_BYTES = (1 << 20) + (64 << 10)
"""The largest task that a worker takes by default (`max_task_bytes`)."""

_ID = re.compile(r"[\x20-\x7e]{1,200}")
_BODIES = ("body", "body_text", "body_base64", "form", "parts")


class TaskFields(TypedDict, total=False):
    """The fields of a task besides `url`, as `docs/protocol.md` explains them. Times are in ms."""

    id: str
    method: str
    headers: Mapping[str, str]
    body: Any
    body_text: str
    body_base64: str
    form: Mapping[str, Any]
    parts: list[Mapping[str, str]]
    timeout_ms: int
    connect_timeout_ms: int
    retry: Mapping[str, Any]
    ok_when: Mapping[str, Any]
    retry_when: Mapping[str, Any]
    redirects: int
    expires_at_ms: int
    ttl_ms: int
    run_at_ms: int
    delay_ms: int
    idempotency_key: str | None
    effect: str
    cache_ttl_ms: int
    cache_key: str
    cache_scope: str
    tenant: str
    reply_to: str
    result_ttl_ms: int
    traceparent: str
    meta: Any
    enqueued_at_ms: int
    limit: str | Mapping[str, Any] | list[str | Mapping[str, Any]]
    callback_url: str
    then: Mapping[str, Any]
    then_error: str
    stream: bool
    on_break: str


FIELDS = frozenset({"url", *TaskFields.__annotations__})


@dataclass(frozen=True)
class Task:
    """A call that was enqueued."""

    id: str
    """Its id. It is all that is needed to wait for the result, also in another process."""
    queue: str
    """The queue that it is on."""
    replies: bool = field(default=True, repr=False, compare=False)
    """Whether its result is pushed to the client that enqueued it."""


@dataclass(frozen=True)
class Prepared:
    """A task that was checked, ready to be pushed."""

    id: str
    line: bytes
    replaces: bool
    """The caller chose the id, so that there may be the result of an earlier task with the same id."""
    replies: bool


def prepare(
    task: str | Mapping[str, Any],
    fields: Mapping[str, Any],
    defaults: Mapping[str, Any],
    reply_to: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> Prepared:
    """Checks a task and gives it what it lacks: an id, the time, and the list for its result."""
    named: Mapping[str, Any] = {"url": task} if isinstance(task, str) else task
    given_fields = {**defaults, **named, **fields}
    values = {name: value for name, value in given_fields.items() if value is not None}
    is_new = "id" not in values
    _check_names(values)
    _check_url(values)
    given = values.setdefault("id", str(uuid.uuid4()))
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise InvalidTask(f"id: 1 to 200 printable ASCII characters, not {given!r}")
    bodies = [name for name in _BODIES if name in values]
    if len(bodies) > 1:
        raise InvalidTask(f"{bodies[0]} and {bodies[1]} exclude each other: a call has one body")
    if isinstance(values.get("body"), (bytes, bytearray, memoryview)):
        values["body_base64"] = base64.b64encode(values.pop("body")).decode()
    replies = reply_to is not None and values.setdefault("reply_to", reply_to) == reply_to
    context = traceparent()
    if context is not None:
        values.setdefault("traceparent", context)
    values.setdefault("enqueued_at_ms", int(time.time() * 1000))
    return Prepared(id=given, line=_encode(values, max_bytes), replaces=not is_new, replies=replies)


def _check_names(values: Mapping[str, Any]) -> None:
    for name in values:
        if name not in FIELDS:
            close = difflib.get_close_matches(str(name), FIELDS, 1)
            hint = f", did you mean {close[0]}?" if close else ""
            warnings.warn(f"a task has no field {name}{hint}", UnknownFieldWarning, stacklevel=5)
        elif name.endswith("_ms") and (not isinstance(values[name], int) or isinstance(values[name], bool)):
            raise InvalidTask(f"{name}: a whole number of milliseconds, not {values[name]!r}")


def _check_url(values: Mapping[str, Any]) -> None:
    url = values.get("url")
    if not isinstance(url, str) or not re.match(r"https?://[^/?#]", url, re.IGNORECASE):
        raise InvalidTask(f"url: an absolute http or https URL, not {url!r}")


def _encode(values: Mapping[str, Any], max_bytes: int) -> bytes:
    try:
        line = json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"the task cannot be written as JSON: {error}") from error
    if len(line) > max_bytes:
        raise InvalidTask(f"the task has {len(line)} bytes, and at most {max_bytes} are allowed (max_task_bytes)")
    return line
