"""Redial makes HTTP calls that succeed. This package enqueues calls for its workers and waits for their results.

    >>> from redial import Redial
    >>> redial = Redial("redis://127.0.0.1:6379")
    >>> redial.call("https://api.example.com/v1/extract", body={"text": "hi"}, timeout=60).json()

`Redial` is for threads, `AsyncRedial` for asyncio; `Gateway` and `AsyncGateway` do the same over HTTP. `openai` and `async_openai`
make clients of OpenAI's SDK.
"""

from .aio import AsyncRedial
from .aio_gateway import AsyncGateway
from .client import Redial
from .errors import (
    CallFailed,
    ClientClosed,
    ConnectionFailed,
    GatewayRefused,
    InvalidTask,
    RedialError,
    StreamFailed,
    UnknownFieldWarning,
    WaitTimeout,
)
from .gateway import Gateway
from .result import Attempt, Result
from .sdk import async_openai, http_clients, openai
from .stream import StreamEntry
from .task import Task, TaskFields

__all__ = [
    "AsyncGateway",
    "AsyncRedial",
    "Attempt",
    "CallFailed",
    "ClientClosed",
    "ConnectionFailed",
    "Gateway",
    "GatewayRefused",
    "InvalidTask",
    "Redial",
    "RedialError",
    "Result",
    "StreamEntry",
    "StreamFailed",
    "Task",
    "TaskFields",
    "UnknownFieldWarning",
    "WaitTimeout",
    "async_openai",
    "http_clients",
    "openai",
]
