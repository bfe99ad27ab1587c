"""The sync client against real servers."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PROGRAMS, Redis, Upstream, Worker, eventually

from redial import CallFailed, ClientClosed, ConnectionFailed, InvalidTask, Redial, RedialError, Task, WaitTimeout

FAST = {"max_attempts": 5, "base_ms": 20, "cap_ms": 50}


def client(redis: Redis, **options: object) -> Redial:
    return Redial(redis.url, program=str(PROGRAMS / "redial"), **options)  # type: ignore[arg-type]


def test_a_call_makes_the_round_trip(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    with client(redis) as redial:
        result = redial.call(upstream.url("/echo"), body={"text": "grüße 😀"}, meta={"order": 17})
    assert result.ok and result.http_status == 200 and result.source == "call"
    assert result.json() == {"text": "grüße 😀"}
    assert result.headers["content-type"] == "application/json"
    assert result.meta == {"order": 17} and [a.http_status for a in result.attempts] == [200]
    assert result.attempts[0].took_ms >= 0 and result.finished_at_ms >= (result.enqueued_at_ms or 0) > 0


def test_bodies_keep_every_byte(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    with client(redis) as redial:
        assert redial.call(upstream.url("/bytes")).content == b"\xff\x00\xfe"
        digits = redial.call(upstream.url("/digits"))
        assert digits.content == b'{ "n": 1.10, "big": 123456789012345678901234567890 }'
        assert redial.call(upstream.url("/echo"), method="POST", body=b"\x00\xff").content == b"\x00\xff"
        assert redial.call(upstream.url("/echo"), body_text="hi").text == "hi"
        assert redial.call(upstream.url("/echo"), form={"a": [1, 2]}).text == "a=1&a=2"


def test_redial_retries(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    with client(redis, retry=FAST) as redial:
        result = redial.call(upstream.url("/flaky/2"))
    assert [a.http_status for a in result.attempts] == [503, 503, 200]


def test_a_dead_letter_is_an_exception(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    with client(redis) as redial:
        with pytest.raises(CallFailed) as failed:
            redial.call(upstream.url("/status/422"))
        assert (failed.value.reason, failed.value.http_status) == ("rejected", 422)
        assert failed.value.result.json() == {"error": {"message": "as asked"}}
        assert "rejected" in str(failed.value) and str(failed.value.id) in str(failed.value)
        with pytest.raises(CallFailed) as failed:
            redial.call(upstream.url("/status/503"), retry={**FAST, "max_attempts": 2})
        assert failed.value.reason == "attempts_exhausted" and len(failed.value.result.attempts) == 2
        with pytest.raises(CallFailed) as failed:
            redial.call("http://10.0.0.1/")
        assert failed.value.reason == "forbidden_target" and failed.value.http_status is None
        task = redial.enqueue(upstream.url("/status/404"))
        assert not redial.wait(task, check=False).ok
        found = redial.result(task)
        assert found is not None and found.reason == "rejected", "`result` raises nothing"


def test_tasks_are_checked_before_they_are_enqueued(redis: Redis) -> None:
    redial = client(redis)
    for task, fields, words in [
        ("ftp://example.com", {}, "url"),
        ("https://example.com", {"body": 1, "form": {}}, "exclude"),
        ("https://example.com", {"id": "ü"}, "id"),
        ("https://example.com", {"timeout_ms": 1.5}, "timeout_ms"),
        ("https://example.com", {"body": float("nan")}, "JSON"),
        ("https://example.com", {"body": object()}, "JSON"),
        ("https://example.com", {"body": "x" * (2 << 20)}, "bytes"),
        ({"body": 1}, {}, "url"),
    ]:
        with pytest.raises(InvalidTask, match=words):
            redial.enqueue(task, **fields)  # type: ignore[arg-type]
    with pytest.raises(InvalidTask):
        redial.enqueue_many(["https://example.com", "nonsense"])
    with pytest.warns(UserWarning, match="did you mean timeout_ms"):
        redial.enqueue("https://example.com", timout_ms=5)  # type: ignore[call-arg]
    assert redis.waiting() == 1
    for timeout in (None, float("inf"), -1):
        with pytest.raises(ValueError, match="timeout"):
            redial.wait("a1", timeout=timeout)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="queue"):
        Redial(redis.url, queue="{a}")
    with pytest.raises(ValueError, match="url"):
        Redial("http://127.0.0.1")
    redial.close()


def test_many_tasks_are_enqueued_in_their_order_and_waited_for(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    with client(redis) as redial:
        tasks = redial.enqueue_many({"url": upstream.url("/echo"), "body": n} for n in range(700))
        results = redial.wait_many(tasks)
        assert [result.json() for result in results] == list(range(700))
        tasks = redial.enqueue_many([upstream.url("/slow/600"), upstream.url("/echo"), upstream.url("/status/404")])
        arrived = [result.id for result in redial.as_completed(tasks)]
        assert sorted(map(str, arrived)) == sorted(task.id for task in tasks) and arrived[-1] == tasks[0].id
        with pytest.raises(CallFailed):
            redial.wait_many(tasks, check=True)


def test_a_wait_ends_in_time_and_the_call_goes_on(redis: Redis, start_worker: Callable[[], Worker], upstream: Upstream) -> None:
    with client(redis) as redial:
        with pytest.raises(WaitTimeout) as late:
            redial.call(upstream.url("/echo"), body=1, timeout=0.2)
        assert isinstance(late.value, TimeoutError) and "is a worker running?" in str(late.value)
        assert redial._process.waiting() == [], "a caller that gives up frees its place"
        assert redial.result(late.value.ids[0]) is None
        done = redial.enqueue(upstream.url("/echo"))
        start_worker()
        assert redial.wait(late.value.ids[0]).json() == 1
        redial.wait(done)
        never = Task("never", "default")
        with pytest.raises(WaitTimeout) as late:
            redial.wait_many([done, never], timeout=0.3)
        assert late.value.ids == ["never"] and list(late.value.results) == [done.id]
        assert redial._process.waiting() == []


def test_a_wait_finds_what_another_program_enqueued(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    with client(redis) as redial, client(redis) as other:
        for options in ({}, {"reply": False}):
            task = other.enqueue(upstream.url("/slow/300"), **options)
            assert redial.wait(task.id).ok
            assert redial.wait(task.id, timeout=0.5).ok, "a result is there more than once"
        task = other.enqueue(upstream.url("/slow/300"), reply_to="answers:mine")
        assert not task.replies and other.wait(task).ok and redis.client.llen("answers:mine") == 1
        with pytest.raises(ValueError, match="queue"):
            redial.wait(Task("a1", "another"))


def test_an_id_that_is_used_again_gets_its_own_result(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    with client(redis) as redial:
        for n in range(5):
            task = redial.enqueue(upstream.url("/echo"), body=n, id="again")
            assert redial.wait(task).json() == n


def test_two_clients_never_get_each_others_answers(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    clients = [client(redis) for _ in range(4)]

    def ask(n: int) -> None:
        assert clients[n % 4].call(upstream.url("/echo"), body={"caller": n}).json() == {"caller": n}

    with ThreadPoolExecutor(40) as threads:
        list(threads.map(ask, range(400)))
    for redial in clients:
        redial.close()


def test_many_waiters_share_three_connections(redis: Redis, start_worker: Callable[[], Worker], upstream: Upstream) -> None:
    callers = 1000
    with client(redis) as redial, ThreadPoolExecutor(callers) as threads:
        answers = [threads.submit(redial.call, upstream.url("/echo"), body=n, timeout=100) for n in range(callers)]
        eventually(lambda: redis.waiting() == callers)
        assert redis.clients() <= 3
        start_worker()
        assert [answer.result().json() for answer in answers] == list(range(callers))


def test_waits_survive_a_redis_that_is_killed(redis: Redis, start_worker: Callable[[], Worker], upstream: Upstream) -> None:
    with client(redis) as redial, ThreadPoolExecutor(20) as threads:
        answers = [threads.submit(redial.call, upstream.url("/echo"), body=n) for n in range(20)]
        eventually(lambda: redis.waiting() == 20)
        redis.kill()
        with pytest.raises(ConnectionFailed):
            redial.enqueue(upstream.url("/echo"))
        with pytest.raises(WaitTimeout):
            redial.wait("gone", timeout=0.3)
        redis.start()
        start_worker()
        assert [answer.result().json() for answer in answers] == list(range(20))
        assert redial.call(upstream.url("/echo"), body="after").json() == "after"


def test_an_answer_whose_reply_was_lost_is_looked_up(redis: Redis) -> None:
    with client(redis) as redial, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(redial.call, "https://example.com", id="lost", timeout=30)
        eventually(lambda: redis.waiting() == 1)
        # There is no worker: this result is stored, and its reply goes to nobody.
        result = {"id": "lost", "status": "ok", "http_status": 200, "finished_at_ms": 1}
        redis.client.set("redial:{default}:result:lost", json.dumps(result))
        assert answer.result().ok


def test_a_task_is_cancelled(redis: Redis, upstream: Upstream) -> None:
    with client(redis) as redial:
        task = redial.enqueue(upstream.url("/echo"))
        assert redial.cancel(task)
        with pytest.raises(CallFailed) as failed:
            redial.wait(task)
        assert failed.value.reason == "cancelled"
        assert not redial.cancel(task), "it has ended"
        assert not redial.cancel("--never")
    missing = Redial(redis.url, program="/nowhere/redial")
    with pytest.raises(RedialError, match="`program`"):
        missing.cancel("a1")
    redis.kill()
    with pytest.raises(RedialError, match="exit code 1"):
        client(redis).cancel("a1")
    redis.start()


def test_queue_and_prefix_are_the_workers(redis: Redis, start_worker: Callable[..., Worker], upstream: Upstream) -> None:
    start_worker(REDIAL_QUEUES="mail", REDIAL_PREFIX="mine")
    with client(redis, queue="mail", prefix="mine") as redial:
        assert redial.call(upstream.url("/echo"), body=1).json() == 1


def test_a_fork_has_a_reader_of_its_own(redis: Redis, worker: Worker, upstream: Upstream) -> None:
    with client(redis) as redial:
        parent_list = redial._process.reply_to
        assert redial.call(upstream.url("/echo"), body="parent").json() == "parent"
        handle = redial.enqueue(upstream.url("/slow/500"))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                own = redial.call(upstream.url("/echo"), body="child").json() == "child"
                code = 0 if own and redial._process.reply_to != parent_list and redial.wait(handle).ok else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert redial.wait(handle).ok
        assert redial.call(upstream.url("/echo"), body="again").json() == "again"


def test_closing_ends_waits(redis: Redis, upstream: Upstream) -> None:
    redial = client(redis)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            redial.call(upstream.url("/echo"))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: redis.waiting() == 1)
    started = time.monotonic()
    redial.close()
    thread.join(10)
    assert isinstance(errors[0], ClientClosed) and time.monotonic() - started < 5
    with pytest.raises(ClientClosed):
        redial.enqueue(upstream.url("/echo"))
    eventually(lambda: redis.clients() == 0)


@pytest.mark.parametrize("error", [ValueError("I/O operation on closed file."), OSError("Bad file descriptor")])
def test_closing_ends_a_command_that_is_on_its_way(
    redis: Redis, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    redial = client(redis)

    def closed_meanwhile(*_: object) -> None:
        redial.close()
        raise error

    monkeypatch.setattr("redis.Redis.lpush", closed_meanwhile)
    with pytest.raises(ClientClosed):
        redial.enqueue(upstream.url("/echo"))


def test_a_reader_that_may_not_read_says_so(redis: Redis, upstream: Upstream) -> None:
    redis.client.execute_command("ACL", "SETUSER", "pusher", "on", ">secret", "~*", "&*", "+lpush", "+get", "+mget")
    redial = Redial(f"redis://pusher:secret@127.0.0.1:{redis.port}")
    with pytest.raises(ConnectionFailed, match="refuses"):
        redial.call(upstream.url("/echo"), timeout=15)
    redial.close()
