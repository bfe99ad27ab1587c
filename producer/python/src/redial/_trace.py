"""The trace that calls belong to, if the program has one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _opentelemetry() -> Any:
    try:
        from opentelemetry import trace  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return trace


def traceparent() -> str | None:
    """The context of the active span (W3C Trace Context); None without OpenTelemetry or outside of a span."""
    trace = _opentelemetry()
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
