"""The result of a call, as `docs/protocol.md` defines it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import CallFailed, RedialError

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Attempt:
    """One call on the wire."""

    at_ms: int
    """When it began, in ms since 1970."""
    took_ms: int
    """How long it took, in ms."""
    http_status: int | None
    """The status of the response, if there was one."""
    error: str | None
    """What went wrong."""
    wait_ms: int | None
    """The wait that followed, in ms."""


@dataclass(frozen=True)
class Result:
    """What became of a call."""

    id: str | None
    """The id of the task; `None` if it could not be read."""
    status: str
    """`ok` or `dead`."""
    http_status: int | None
    """The status of the last response, if there was one."""
    headers: Mapping[str, str]
    """The headers of the last response. Their names are in lower case."""
    content: bytes = field(repr=False)
    """The body of the last response, byte for byte."""
    reason: str | None
    """Why the task is dead: `rejected`, `attempts_exhausted`, `expired`, `cancelled`, ..."""
    error: str | None
    """The same as a message."""
    attempts: tuple[Attempt, ...] = field(repr=False)
    """Every call that was made for the task; the last 32 if there were more."""
    source: str
    """`call`; or `cache`, `shared` or `idempotency` for an answer that needed no call of its own."""
    enqueued_at_ms: int | None = field(repr=False)
    """The time that the producer gave."""
    finished_at_ms: int = field(repr=False)
    """When the result was made, by the clock of Redis, in ms since 1970."""
    meta: Any = field(repr=False)
    """What the task had as `meta`."""

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.status == "ok"

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced by U+FFFD."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, parsed as JSON. Raises `json.JSONDecodeError` if it is not JSON."""
        return json.loads(self.content)

    def check(self) -> Result:
        """Returns the result itself if the call succeeded, and raises `CallFailed` otherwise."""
        if not self.ok:
            raise CallFailed(self)
        return self

    @classmethod
    def parse(cls, line: bytes) -> Result:
        """Parses a result as a worker wrote it. Raises `RedialError` if it is something else."""
        try:
            values, body = _fields(line.decode("utf-8"))
            return cls(
                id=values["id"],
                status=values["status"],
                http_status=values.get("http_status"),
                headers=values.get("headers") or {},
                content=_content(values, body),
                reason=values.get("reason"),
                error=values.get("error"),
                attempts=tuple(_attempt(attempt) for attempt in values.get("attempts") or ()),
                source=values.get("source") or "call",
                enqueued_at_ms=values.get("enqueued_at_ms"),
                finished_at_ms=values["finished_at_ms"],
                meta=values.get("meta"),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RedialError(f"this is not the result of a task: {line[:200]!r}: {error!r}") from error


def _attempt(values: Mapping[str, Any]) -> Attempt:
    return Attempt(
        at_ms=values["at_ms"],
        took_ms=values["took_ms"],
        http_status=values.get("http_status"),
        error=values.get("error"),
        wait_ms=values.get("wait_ms"),
    )


def _content(values: Mapping[str, Any], body: str | None) -> bytes:
    if values.get("body_base64") is not None:
        return base64.b64decode(values["body_base64"])
    if values.get("body_text") is not None:
        return str(values["body_text"]).encode("utf-8", "surrogatepass")
    return (body or "").encode("utf-8")


def _fields(text: str) -> tuple[dict[str, Any], str | None]:
    """The fields of a JSON object, and the text of its `body`, which may not be encoded anew: it would lose digits and spaces."""
    values: dict[str, Any] = {}
    body: str | None = None
    at = _expect(text, 0, "{")
    while True:
        name, at = _DECODER.raw_decode(text, _skip(text, at))
        start = _skip(text, _expect(text, at, ":"))
        values[name], at = _DECODER.raw_decode(text, start)
        if name == "body":
            body = text[start:at]
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at += 1
            continue
        _expect(text, at, "}")
        return values, body


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"expected {mark} at character {at}")
    return at + 1
