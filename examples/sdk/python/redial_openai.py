"""Sends the official OpenAI SDK's requests through Redial. How it differs from a direct call: docs/sdk.md."""
import asyncio, base64, json, os, re, threading, time, uuid
from concurrent.futures import Future

import httpx2, openai, redis

# Headers of a single connection, and credentials: the worker adds its own, so none enters Redis.
LEFT_OUT = re.compile("host|connection|keep-alive|transfer-encoding|content-(length|encoding)|accept-encoding|authorization|api-key|cookie")
CHECK_S = 5  # How often the reader checks for results whose reply got lost, such as when a connection broke.


class RedialTransport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """For `OpenAI` and `AsyncOpenAI`. Any number of callers share one reply list, one thread that reads it, and ten connections."""

    def __init__(self, redis_url, queue="default", wait_s=900, **fields):
        """No attempt starts later than `wait_s` after the call; `fields` go on every task."""
        pool = redis.BlockingConnectionPool.from_url(redis_url, max_connections=10, socket_timeout=2 * CHECK_S)
        self.redis, self.queue, self.wait_s, self.fields = redis.Redis(connection_pool=pool), f"{{{queue}}}", wait_s, fields
        self.lock, self.pid = threading.Lock(), None

    def handle_request(self, request):
        request.read()
        task, wait_s = self._task(request)
        try:
            result = self._push(task, request).result(wait_s)
        except TimeoutError:
            result = None
        finally:
            self.waiting.pop(task["id"], None)
        return self._response(task["id"], result, request)

    async def handle_async_request(self, request):
        await request.aread()
        task, wait_s = self._task(request)
        try:
            answer = await asyncio.to_thread(self._push, task, request)
            result = await asyncio.wait_for(asyncio.wrap_future(answer), wait_s)
        except TimeoutError:
            result = None
        finally:
            self.waiting.pop(task["id"], None)
        return self._response(task["id"], result, request)

    def _task(self, request):
        """The request as a task, and how long to wait for its answer."""
        headers = {name: value for name, value in request.headers.items() if not LEFT_OUT.fullmatch(name)}
        content, timeout_s = request.content, request.extensions["timeout"]["read"] or 600
        body = json.loads(content or "null") if headers.get("content-type") == "application/json" else None
        if body and body.get("stream"):
            raise openai.OpenAIError("streams can't go through a queue: leave out `stream`")
        task = {"id": str(uuid.uuid4()), "url": str(request.url), "method": request.method, "headers": headers, "body": body,
                "body_base64": base64.b64encode(content).decode() if content and body is None else None,
                "idempotency_key": headers.pop("idempotency-key", None), "timeout_ms": int(timeout_s * 1000),
                "expires_at_ms": int((time.time() + self.wait_s) * 1000)}
        return task | self.fields, self.wait_s + timeout_s

    def _push(self, task, request):
        """Pushes the task and returns a future of its result."""
        with self.lock:
            if self.pid != os.getpid():  # The first call in this process: a fork does not take the reader along.
                self.pid, self.waiting, self.reply_to = os.getpid(), {}, f"answers:{self.queue}:{uuid.uuid4()}"
                threading.Thread(target=self._read_answers, daemon=True, name="redial").start()
        answer = self.waiting[task["id"]] = Future()
        answer.set_running_or_notify_cancel()  # A caller that stops waiting cannot cancel it under the reader's hands.
        try:
            self.redis.lpush(f"redial:{self.queue}", json.dumps(task | {"reply_to": self.reply_to}))
        except redis.RedisError as error:
            raise openai.APIConnectionError(message=f"Redis: {error}", request=request) from error
        return answer

    def _read_answers(self):
        """Hands each answer to its caller, for as long as the process lives."""
        check_at = 0
        while True:
            try:
                if reply := self.redis.brpop([self.reply_to], timeout=CHECK_S):
                    self._resolve(reply[1])
                if time.monotonic() >= check_at:
                    keys = [f"redial:{self.queue}:result:{id}" for id in list(self.waiting)]
                    for result in filter(None, self.redis.mget(keys) if keys else []):
                        self._resolve(result)
                    check_at = time.monotonic() + CHECK_S
            except redis.RedisError:  # Redis is away. Once it is back, check what came in the meantime.
                check_at = 0
                time.sleep(1)

    def _resolve(self, result):
        result = json.loads(result)
        if answer := self.waiting.pop(result["id"], None):  # None: nobody waits any more.
            answer.set_result(result)

    def _response(self, id, result, request):
        """The upstream's response. Without one, an error that says why."""
        result = result or {"http_status": None, "reason": "no answer in time", "error": "is a worker running?"}
        if result["http_status"] is None:
            raise openai.APIConnectionError(message=f"task {id}: {result['reason']}: {result['error']}", request=request)
        content = base64.b64decode(result.get("body_base64", "")) or result.get("body_text", json.dumps(result.get("body"))).encode()
        headers = {name: value for name, value in result["headers"].items() if not LEFT_OUT.fullmatch(name)}
        return httpx2.Response(result["http_status"], headers=headers, content=content)
