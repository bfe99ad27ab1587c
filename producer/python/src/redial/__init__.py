"""Redial makes HTTP calls that succeed. This package enqueues calls for its workers and waits for their results.

    >>> from redial import Redial
    >>> redial = Redial("redis://127.0.0.1:6379")
    >>> redial.call("https://api.example.com/v1/extract", body={"text": "hi"}, timeout=60).json()

`Redial` is for threads, `AsyncRedial` for asyncio. `openai` and `async_openai` make clients of OpenAI's SDK.
"""

from .aio import AsyncRedial
from .client import Redial
from .errors import (
    CallFailed,
    ClientClosed,
    ConnectionFailed,
    InvalidTask,
    RedialError,
    UnknownFieldWarning,
    WaitTimeout,
)
from .result import Attempt, Result
from .sdk import async_openai, http_clients, openai
from .task import Task, TaskFields

__all__ = [
    "AsyncRedial",
    "Attempt",
    "CallFailed",
    "ClientClosed",
    "ConnectionFailed",
    "InvalidTask",
    "Redial",
    "RedialError",
    "Result",
    "Task",
    "TaskFields",
    "UnknownFieldWarning",
    "WaitTimeout",
    "async_openai",
    "http_clients",
    "openai",
]
