"""The asyncio client against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from conftest import PROGRAMS, Redis, Upstream, Worker, eventually

from redial import AsyncRedial, CallFailed, ClientClosed, ConnectionFailed, InvalidTask, WaitTimeout

FAST = {"max_attempts": 5, "base_ms": 20, "cap_ms": 50}


def client(redis: Redis, **options: object) -> AsyncRedial:
    return AsyncRedial(redis.url, program=str(PROGRAMS / "redial"), **options)  # type: ignore[arg-type]


async def until(found: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, found)


def test_calls_retries_and_dead_letters(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    async def main() -> None:
        async with client(redis, retry=FAST) as redial:
            assert (await redial.call(upstream.url("/echo"), body={"text": "hi"})).json() == {"text": "hi"}
            assert len((await redial.call(upstream.url("/flaky/2"))).attempts) == 3
            with pytest.raises(CallFailed) as failed:
                await redial.call(upstream.url("/status/422"))
            assert failed.value.reason == "rejected" and failed.value.http_status == 422
            with pytest.raises(InvalidTask):
                await redial.enqueue("nonsense")
            tasks = await redial.enqueue_many({"url": upstream.url("/echo"), "body": n} for n in range(300))
            assert [result.json() for result in await redial.wait_many(tasks)] == list(range(300))
            tasks = await redial.enqueue_many([upstream.url("/slow/600"), upstream.url("/echo")])
            assert [result.id async for result in redial.as_completed(tasks)] == [tasks[1].id, tasks[0].id]
            foreign = await redial.enqueue(upstream.url("/slow/300"), reply=False)
            assert (await redial.wait(foreign.id)).ok and (await redial.result(foreign)) is not None

    asyncio.run(main())


def test_thousands_of_waiters_share_three_connections(redis: Redis, start_worker: Callable[[], Worker], upstream: Upstream) -> None:
    callers = 3000

    async def main() -> None:
        async with client(redis) as redial:
            calls = [redial.call(upstream.url("/echo"), body=n, timeout=100) for n in range(callers)]
            answers = asyncio.gather(*calls)
            await until(lambda: redis.waiting() == callers)
            assert redis.clients() <= 3
            start_worker()
            assert [answer.json() for answer in await answers] == list(range(callers))

    asyncio.run(main())


def test_a_caller_that_gives_up_frees_its_place(redis: Redis, start_worker: Callable[[], Worker], upstream: Upstream) -> None:
    async def main() -> None:
        async with client(redis) as redial:
            with pytest.raises(WaitTimeout) as late:
                await redial.call(upstream.url("/echo"), body=1, timeout=0.2)
            call = asyncio.ensure_future(redial.call(upstream.url("/echo")))
            await until(lambda: redis.waiting() == 2)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not redial._current()._waiting
            start_worker()
            assert (await redial.wait(late.value.ids[0])).json() == 1, "the call went on"

    asyncio.run(main())


def test_waits_survive_a_redis_that_is_killed(redis: Redis, start_worker: Callable[[], Worker], upstream: Upstream) -> None:
    async def main() -> None:
        async with client(redis) as redial:
            answers = asyncio.gather(*[redial.call(upstream.url("/echo"), body=n) for n in range(20)])
            await until(lambda: redis.waiting() == 20)
            redis.kill()
            with pytest.raises(ConnectionFailed):
                await redial.enqueue(upstream.url("/echo"))
            await asyncio.to_thread(redis.start)
            start_worker()
            assert [answer.json() for answer in await answers] == list(range(20))

    asyncio.run(main())


def test_one_client_serves_several_event_loops(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    redial = client(redis)

    async def ask(n: int) -> None:
        answers = await asyncio.gather(*[redial.call(upstream.url("/echo"), body=[n, m]) for m in range(10)])
        assert [answer.json() for answer in answers] == [[n, m] for m in range(10)]

    async def loops_in_threads() -> None:
        await asyncio.gather(*[asyncio.to_thread(asyncio.run, ask(n)) for n in range(5)])

    asyncio.run(loops_in_threads())
    asyncio.run(ask(5))
    worker.kill()
    eventually(lambda: redis.clients() == 0)


def test_two_clients_never_get_each_others_answers(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    async def main() -> None:
        clients = [client(redis) for _ in range(4)]

        async def ask(n: int) -> None:
            assert (await clients[n % 4].call(upstream.url("/echo"), body={"caller": n})).json() == {"caller": n}

        await asyncio.gather(*map(ask, range(400)))
        for redial in clients:
            await redial.close()

    asyncio.run(main())


def test_cancelling_and_closing(redis: Redis, upstream: Upstream) -> None:
    async def main() -> None:
        redial = client(redis)
        task = await redial.enqueue(upstream.url("/echo"))
        assert await redial.cancel(task) and not await redial.cancel(task)
        with pytest.raises(CallFailed, match="cancelled"):
            await redial.wait(task)
        call = asyncio.ensure_future(redial.call(upstream.url("/echo")))
        await until(lambda: redis.waiting() == 1)
        await redial.close()
        with pytest.raises(ClientClosed):
            await call
        with pytest.raises(ClientClosed):
            await redial.enqueue(upstream.url("/echo"))

    asyncio.run(main())
    eventually(lambda: redis.clients() == 0)
