"""OpenAI's SDK and LangChain through Redial: what they send is what arrives, and their errors are their own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from conftest import PROGRAMS, Redis, Upstream, Worker

import redial
from redial import AsyncRedial, Redial

sdk = pytest.importorskip("openai")
PROMPT: Any = {"model": "m", "messages": [{"role": "user", "content": "grüße 😀"}]}
ANSWER = "You said: grüße 😀"


def said(completion: Any) -> Any:
    return completion.choices[0].message.content


def test_the_sync_sdk(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    client = redial.openai(redis.url, redial={"timeout_ms": 5_000}, base_url=upstream.url("/v1"))
    assert said(client.chat.completions.create(**PROMPT)) == ANSWER
    raw = client.chat.completions.with_raw_response.create(**PROMPT)
    assert raw.headers["redial-source"] == "call" and raw.headers["x-should-retry"] == "false"
    headers = upstream.calls[0]["headers"]
    assert "authorization" not in headers and headers["content-type"] == "application/json"
    with pytest.raises(sdk.BadRequestError, match="takes less"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "too long"}])
    with pytest.raises(sdk.BadRequestError, match="leave out `stream`"):
        client.chat.completions.create(**PROMPT, stream=True)
    elsewhere = Redial(redis.url).openai(base_url="http://10.0.0.1/v1")
    with pytest.raises(sdk.APIConnectionError) as failed:
        elsewhere.chat.completions.create(**PROMPT)
    assert "forbidden_target" in str(failed.value.__cause__)


def test_the_async_sdk(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    async def main() -> None:
        client = redial.async_openai(redis.url, base_url=upstream.url("/v1"))
        completions = await asyncio.gather(*[client.chat.completions.create(**PROMPT) for _ in range(50)])
        assert {said(completion) for completion in completions} == {ANSWER}
        with pytest.raises(sdk.BadRequestError, match="takes less"):
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "too long"}])
        async with AsyncRedial(redis.url) as mine:
            assert said(await mine.openai(base_url=upstream.url("/v1")).chat.completions.create(**PROMPT)) == ANSWER

    asyncio.run(main())


def test_a_call_with_an_idempotency_key_is_made_once(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    client = redial.openai(redis.url, base_url=upstream.url("/v1"))
    for _ in range(2):
        assert said(client.chat.completions.create(**PROMPT, extra_headers={"Idempotency-Key": "order-17"})) == ANSWER
    assert [call["headers"].get("idempotency-key") for call in upstream.calls] == ["order-17"]


def test_an_sdk_with_retries_finds_nothing_to_do(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    fields = {"retry": {"max_attempts": 2, "base_ms": 10}}
    client = redial.openai(redis.url, redial=fields, base_url=upstream.url("/status/503?"), max_retries=5)
    with pytest.raises(sdk.InternalServerError):
        client.chat.completions.create(**PROMPT)
    assert len(upstream.calls) == 2, "two attempts of one task"


def test_no_answer_in_time_is_the_sdks_timeout(redis: Redis, upstream: Upstream) -> None:
    http = pytest.importorskip("httpx2").Client(transport=Redial(redis.url).transport(wait_s=0.2))
    client = sdk.OpenAI(http_client=http, base_url=upstream.url("/v1"), api_key="none", max_retries=0, timeout=0.2)
    with pytest.raises(sdk.APITimeoutError):
        client.chat.completions.create(**PROMPT)
    task = json.loads(redis.client.lindex("redial:{default}", 0))
    assert task["timeout_ms"] == 200 and task["expires_at_ms"] - task["enqueued_at_ms"] in range(150, 250)
    assert "none" not in json.dumps(task), "the SDK's key is in Redis"


def test_langchain_goes_through_redial_with_invoke_and_ainvoke(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    langchain = pytest.importorskip("langchain_openai")
    model = langchain.ChatOpenAI(
        model="m",
        base_url=upstream.url("/v1"),
        api_key="the worker has it",
        max_retries=0,
        **redial.http_clients(redis.url, program=str(PROGRAMS / "redial")),
    )
    stats = "redial:{default}:stats"
    assert model.invoke("hello").content == "You said: hello"
    assert int(redis.client.hget(stats, "complete") or 0) == 1
    assert asyncio.run(model.ainvoke("hello")).content == "You said: hello"
    assert int(redis.client.hget(stats, "complete") or 0) == 2 == len(upstream.calls)
