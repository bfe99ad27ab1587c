"""OpenAI's own SDK through Redial."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .aio import AsyncRedial
from .client import Redial

if TYPE_CHECKING:
    import openai as sdk

PLACEHOLDER = "the worker has it"
"""What the SDK gets as its API key: it insists on one, and the worker adds the real one."""


def openai(url: str | None = None, *, redial: Mapping[str, Any] | None = None, **options: Any) -> sdk.OpenAI:
    """`openai.OpenAI` whose requests go through the Redial at `url`.

    `redial` has arguments for `Redial`, such as `{"queue": "critical", "limit": "openai"}`; `options` are those of `openai.OpenAI`.
    """
    return openai_client(Redial(url, **(redial or {})), options)


def async_openai(url: str | None = None, *, redial: Mapping[str, Any] | None = None, **options: Any) -> sdk.AsyncOpenAI:
    """The same as `openai.AsyncOpenAI`."""
    return async_openai_client(AsyncRedial(url, **(redial or {})), options)


def http_clients(url: str | None = None, *, wait_s: float = 900, **options: Any) -> dict[str, Any]:
    """`http_client` and `http_async_client` for LangChain's `ChatOpenAI`, so that `invoke` and `ainvoke` go through Redial.

    `options` are those of `Redial`.
    """
    library = _library()
    return {
        "http_client": library.Client(transport=Redial(url, **options).transport(wait_s=wait_s)),
        "http_async_client": library.AsyncClient(transport=AsyncRedial(url, **options).transport(wait_s=wait_s)),
    }


def openai_client(redial: Redial, options: Mapping[str, Any]) -> sdk.OpenAI:
    """See `Redial.openai`."""
    import openai as sdk

    client = _library().Client(transport=redial.transport(), timeout=sdk.DEFAULT_TIMEOUT)
    return sdk.OpenAI(**{"api_key": PLACEHOLDER, "max_retries": 0, "http_client": client, **options})


def async_openai_client(redial: AsyncRedial, options: Mapping[str, Any]) -> sdk.AsyncOpenAI:
    """See `AsyncRedial.openai`."""
    import openai as sdk

    client = _library().AsyncClient(transport=redial.transport(), timeout=sdk.DEFAULT_TIMEOUT)
    return sdk.AsyncOpenAI(**{"api_key": PLACEHOLDER, "max_retries": 0, "http_client": client, **options})


@functools.cache
def _library() -> Any:
    """The HTTP library that the installed SDK is built on: httpx2 since version 3, httpx before."""
    import importlib

    import openai as sdk

    bases = [base.__module__.partition(".")[0] for base in sdk.DefaultHttpxClient.__mro__]
    return importlib.import_module(next(base for base in bases if base.startswith("httpx")))
