"""Real servers: Redis, the worker, and an upstream that misbehaves as its URL says."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis as redis_package

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAMS = Path(os.environ.get("REDIAL_PROGRAMS", REPOSITORY / "target" / "debug"))
SOON = 20.0


def eventually(found: Callable[[], Any], seconds: float = SOON) -> Any:
    """What `found` returns once it is true."""
    end = time.monotonic() + seconds
    while True:
        if value := found():
            return value
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Redis:
    """A server of its own that keeps what it confirmed, also if it is killed."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port, self.folder, self.options = free_port(), folder, options
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis_package.Redis(port=self.port)

        def answers() -> bool:
            with contextlib.suppress(redis_package.RedisError):
                return bool(self.client.ping())
            return False

        eventually(answers)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def clients(self) -> int:
        """How many connections there are, this one left out."""
        return len(self.client.client_list()) - 1

    def waiting(self, queue: str = "default") -> int:
        return int(self.client.llen(f"redial:{{{queue}}}"))


class Worker:
    def __init__(self, redis: Redis, folder: Path, **settings: str) -> None:
        settings = {"REDIS_URL": redis.url, "REDIAL_ALLOW_PRIVATE": "127.0.0.0/8", **settings}
        settings["REDIAL_METRICS_ADDR"] = f"127.0.0.1:{free_port()}"
        self.log = folder / f"worker-{free_port()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [PROGRAMS / "redial-worker"], env={**os.environ, **settings}, stdout=log, stderr=log, cwd=folder
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Gateway:
    """`redial serve`, again at the same address after a kill."""

    def __init__(self, redis: Redis, folder: Path) -> None:
        self.port, self.redis, self.folder = free_port(), redis, folder
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, settings: str = "") -> None:
        file = self.folder / "gateway.toml"
        file.write_text(settings)
        command = [PROGRAMS / "redial", "serve", "--listen", f"127.0.0.1:{self.port}", "--config", file]
        with (self.folder / "gateway.log").open("ab") as log:
            environment = {**os.environ, "REDIS_URL": self.redis.url}
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)

        def is_ready() -> bool:
            with contextlib.suppress(OSError):
                return bool(urllib.request.urlopen(f"{self.url}/readyz", timeout=5).status == 200)
            return False

        eventually(is_ready)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Upstream:
    """Answers `/echo`, `/status/N`, `/flaky/N` (N times 503), `/slow/MS`, and a chat API that repeats the prompt.

    `/tokens/N` are N events, 10 ms apart, and `/tokens/N/broken` breaks off then.
    """

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        lock = threading.Lock()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                content = self.rfile.read(int(self.headers.get("content-length") or 0))
                with lock:
                    earlier = sum(call["path"] == self.path for call in upstream.calls)
                    call = {"path": self.path, "content": content, "headers": {k.lower(): v for k, v in self.headers.items()}}
                    upstream.calls.append(call)
                if self.path.startswith("/tokens/"):
                    return self.send_events()
                status, answer, headers = self.answer(content, earlier)
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def send_events(self) -> None:
                count, *broken = self.path.split("/")[2:]
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for n in range(int(count)):
                    event = f"data: {n}\n\n".encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                    time.sleep(0.01)
                if broken:
                    self.close_connection = True
                else:
                    self.wfile.write(b"0\r\n\r\n")

            def answer(self, content: bytes, earlier: int) -> tuple[int, bytes, dict[str, str]]:
                _, kind, *rest = self.path.split("?")[0].split("/")
                if kind == "status":
                    return int(rest[0]), b'{"error": {"message": "as asked"}}', {}
                if kind == "flaky" and earlier < int(rest[0]):
                    return 503, b"{}", {}
                if kind == "slow":
                    time.sleep(int(rest[0]) / 1000)
                if kind == "bytes":
                    return 200, b"\xff\x00\xfe", {"content-type": "application/octet-stream"}
                if kind == "digits":
                    return 200, b'{ "n": 1.10, "big": 123456789012345678901234567890 }', {}
                if kind == "v1":
                    return self.model(json.loads(content), rest)
                return 200, content or b"null", {}

            def model(self, request: Any, path: list[str]) -> tuple[int, bytes, dict[str, str]]:
                prompt = request["messages"][0]["content"]
                if prompt == "too long":
                    return 400, b'{"error": {"message": "This model takes less.", "type": "refused"}}', {}
                message = {"role": "assistant", "content": f"You said: {prompt}"}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
                return 200, json.dumps(answer).encode(), {}

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 1024
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def count(self, path: str) -> int:
        return sum(call["path"] == path for call in self.calls)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    assert shutil.which("redis-server"), "redis-server is not on the PATH"
    server = Redis(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def start_worker(redis: Redis, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers in the course of a test."""
    started: list[Worker] = []

    def start(**settings: str) -> Worker:
        started.append(Worker(redis, tmp_path, **settings))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
def worker(start_worker: Callable[..., Worker]) -> Worker:
    return start_worker()


@pytest.fixture
def gateway(redis: Redis, tmp_path: Path) -> Iterator[Gateway]:
    server = Gateway(redis, tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.server.shutdown()
    server.server.server_close()
