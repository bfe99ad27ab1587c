"""The trace of a program goes along with its calls."""

from __future__ import annotations

import json

import pytest

from redial.task import prepare

URL = "https://api.example.com/"


def test_the_active_span_goes_along_unless_the_caller_names_another() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    tracer = sdk.TracerProvider().get_tracer("test")
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert "traceparent" not in json.loads(prepare(URL, {}, {}).line)
    with tracer.start_as_current_span("outer") as span:
        context = span.get_span_context()
        task = json.loads(prepare(URL, {}, {}).line)
        assert task["traceparent"] == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
        assert json.loads(prepare(URL, {"traceparent": given}, {}).line)["traceparent"] == given
