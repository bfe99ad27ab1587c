"""The clients of a gateway, and streams, against real servers."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import threading
from collections.abc import Iterable

import conftest
import pytest
from conftest import PROGRAMS, Redis, Upstream, Worker

from redial import (
    AsyncGateway,
    AsyncRedial,
    CallFailed,
    ConnectionFailed,
    Gateway,
    GatewayRefused,
    InvalidTask,
    Redial,
    StreamEntry,
    StreamFailed,
    WaitTimeout,
)

FAST = {"max_attempts": 5, "base_ms": 20, "cap_ms": 50}


def events(count: int) -> bytes:
    return b"".join(b"data: %d\n\n" % n for n in range(count))


def body(entries: Iterable[StreamEntry]) -> bytes:
    return b"".join(entry.data for entry in entries)


def test_calls_go_over_the_gateway(gateway: conftest.Gateway, worker: Worker, upstream: Upstream) -> None:
    with Gateway(gateway.url, retry=FAST) as redial:
        result = redial.call(upstream.url("/flaky/2"), body={"text": "grüße 😀"}, meta=17)
        assert (result.json(), result.meta, len(result.attempts)) == ({"text": "grüße 😀"}, 17, 3)
        assert redial.call(upstream.url("/bytes")).content == b"\xff\x00\xfe"
        assert redial.call(upstream.url("/echo"), method="POST", body=b"\x00\xff").content == b"\x00\xff"
        with pytest.raises(CallFailed) as failed:
            redial.call(upstream.url("/status/422"))
        assert (failed.value.reason, failed.value.http_status) == ("rejected", 422)
        with pytest.raises(InvalidTask):
            redial.enqueue("ftp://example.com")
        with pytest.raises(GatewayRefused) as refused:
            redial.enqueue(upstream.url("/echo"), method="FETCH")
        assert (refused.value.status, refused.value.code) == (400, "invalid_task")
        assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)
        task = redial.enqueue(upstream.url("/echo"), delay_ms=60_000)
        assert redial.result(task) is None
        assert [redial.cancel(task), redial.cancel(task), redial.cancel("never")] == [True, False, False]
        with pytest.raises(CallFailed, match="cancelled"):
            redial.wait(task)
        tasks = redial.enqueue_many({"url": upstream.url("/echo"), "body": n} for n in range(200))
        assert [result.json() for result in redial.wait_many(tasks)] == list(range(200))
        with pytest.raises(WaitTimeout) as late:
            redial.wait_many([tasks[0], "never"], timeout=0.5)
        assert (late.value.ids, list(late.value.results)) == (["never"], [tasks[0].id])
    with pytest.raises(ValueError, match="url"):
        Gateway("redis://127.0.0.1")


def test_calls_go_over_the_gateway_in_asyncio(gateway: conftest.Gateway, worker: Worker, upstream: Upstream) -> None:
    async def main() -> None:
        async with AsyncGateway(gateway.url, retry=FAST) as redial:
            assert (await redial.call(upstream.url("/flaky/2"), body=1)).json() == 1
            with pytest.raises(CallFailed):
                await redial.call(upstream.url("/status/422"))
            tasks = await redial.enqueue_many({"url": upstream.url("/echo"), "body": n} for n in range(300))
            assert [result.json() for result in await redial.wait_many(tasks)] == list(range(300))
            with pytest.raises(WaitTimeout) as late:
                await redial.wait_many([tasks[0], "never"], timeout=0.5)
            assert (late.value.ids, list(late.value.results)) == (["never"], [tasks[0].id])
            task = await redial.enqueue(upstream.url("/echo"), delay_ms=60_000)
            assert await redial.result(task) is None and await redial.cancel(task) and not await redial.cancel(task)
            answers = await asyncio.gather(*(redial.call(upstream.url("/slow/300"), body=n) for n in range(100)))
            assert [answer.json() for answer in answers] == list(range(100))

    asyncio.run(main())


def test_waits_and_streams_survive_a_gateway_that_is_killed(gateway: conftest.Gateway, worker: Worker, upstream: Upstream) -> None:
    with Gateway(gateway.url) as redial:
        slow, streamed = redial.enqueue_many([upstream.url("/slow/3000"), {"url": upstream.url("/tokens/300"), "stream": True}])
        results: list[bool] = []
        wait = threading.Thread(target=lambda: results.append(redial.wait(slow).ok))
        wait.start()
        entries = []
        for entry in redial.stream(streamed):
            entries.append(entry)
            if len(entries) == 3:
                gateway.kill()
                with pytest.raises(ConnectionFailed):
                    redial.enqueue(upstream.url("/echo"))
                gateway.start()
        wait.join()
        assert (body(entries), results) == (events(300), [True])


def test_a_stream_is_the_same_over_redis(redis: Redis, gateway: conftest.Gateway, worker: Worker, upstream: Upstream) -> None:
    with Redial(redis.url, program=str(PROGRAMS / "redial")) as redial, Gateway(gateway.url) as over_http:
        task = redial.enqueue(upstream.url("/tokens/50"), stream=True)
        for client in (redial, over_http):
            entries = list(client.stream(task))
            assert (entries[0].type, entries[0].status) == ("head", 200)
            assert entries[0].headers["content-type"] == "text/event-stream"
            assert body(entries) == events(50)
            assert list(client.stream(task, after=entries[2].id)) == entries[3:]
            broken = redial.enqueue(upstream.url("/tokens/5/broken"), stream=True)
            seen = []
            with pytest.raises(StreamFailed) as failed:
                for entry in client.stream(broken):
                    seen.append(entry)
            assert failed.value.reason == "outcome_unknown" and events(5).startswith(body(seen)) and body(seen)
            with pytest.raises(WaitTimeout):
                list(client.stream("never", timeout=0.3))
            plain = redial.enqueue(upstream.url("/echo"))
            with pytest.raises(StreamFailed):
                list(client.stream(plain))


def test_a_stream_is_read_in_asyncio(redis: Redis, gateway: conftest.Gateway, worker: Worker, upstream: Upstream) -> None:
    async def main() -> None:
        async with AsyncRedial(redis.url) as redial, AsyncGateway(gateway.url) as over_http:
            task = await redial.enqueue(upstream.url("/tokens/50"), stream=True)
            for client in (redial, over_http):
                entries = [entry async for entry in client.stream(task)]
                assert body(entries) == events(50)
                assert [entry async for entry in client.stream(task, after=entries[2].id)] == entries[3:]
                with pytest.raises(WaitTimeout):
                    [entry async for entry in client.stream("never", timeout=0.3)]
                broken = await redial.enqueue(upstream.url("/tokens/5/broken"), stream=True)
                with pytest.raises(StreamFailed):
                    [entry async for entry in client.stream(broken)]

    asyncio.run(main())


def test_a_stream_over_redis_survives_a_redis_that_is_killed(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    with Redial(redis.url) as redial:
        task = redial.enqueue(upstream.url("/tokens/100"), stream=True)
        entries = []
        for entry in redial.stream(task):
            entries.append(entry)
            if len(entries) == 3:
                redis.kill()
                redis.start()
        assert body(entries) == events(100)


def test_a_gateway_with_tokens_refuses_others_in_words(gateway: conftest.Gateway, worker: Worker, upstream: Upstream) -> None:
    gateway.kill()
    digest = hashlib.sha256(b"s3cret").hexdigest()
    gateway.start(f'[[token]]\nname = "app"\nhash = "sha256:{digest}"\nqueues = ["default"]\n')
    with Gateway(gateway.url, token="s3cret") as own:
        assert own.call(upstream.url("/echo")).ok
    refusals = [({}, "unauthorized"), ({"token": "wrong"}, "unauthorized"), ({"token": "s3cret", "queue": "other"}, "forbidden")]
    for options, code in refusals:
        with Gateway(gateway.url, **options) as other:  # type: ignore[arg-type]
            with pytest.raises(GatewayRefused) as refused:
                other.call(upstream.url("/echo"))
            assert refused.value.code == code
            with pytest.raises(GatewayRefused):
                other.wait("a1")
