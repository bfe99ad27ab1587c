"""Calls of the official OpenAI SDK, made by Redial. How, and what differs from a direct call: docs/sdk.md."""
import base64, json, re, time, uuid, httpx2, openai, redis
# What each connection makes anew; and credentials: the worker adds them, and none enters Redis.
LEFT_OUT = re.compile("host|connection|keep-alive|transfer-encoding|content-(length|encoding)|accept-encoding|authorization|api-key|cookie")

class RedialTransport(httpx2.BaseTransport):
    def __init__(self, redis_url, queue="default", wait_s=900, **fields):  # After `wait_s` no attempt starts; `fields` are in every task.
        self.redis = redis.Redis.from_url(redis_url, socket_timeout=None)  # BRPOP ends by its own time.
        self.queue, self.wait_s, self.fields = f"{{{queue}}}", wait_s, fields

    def handle_request(self, request):
        headers = {name: value for name, value in request.headers.items() if not LEFT_OUT.fullmatch(name)}
        id, content, timeout_s = str(uuid.uuid4()), request.read(), request.extensions["timeout"]["read"] or 600
        body = json.loads(content or "null") if headers.get("content-type") == "application/json" else None
        if body and body.get("stream"):
            raise openai.OpenAIError("streams can't go through a queue: leave out `stream`")
        task = {"id": id, "url": str(request.url), "method": request.method, "headers": headers, "reply_to": f"answers:{self.queue}:{id}",
                "body": body, "body_base64": base64.b64encode(content).decode() if content and body is None else None,
                "idempotency_key": headers.pop("idempotency-key", None), "timeout_ms": int(timeout_s * 1000)} | self.fields
        try:
            self.redis.lpush(f"redial:{self.queue}", json.dumps({**task, "expires_at_ms": int((time.time() + self.wait_s) * 1000)}))
            answer = self.redis.brpop([task["reply_to"]], timeout=self.wait_s + timeout_s)
        except redis.RedisError as error:
            raise openai.APIConnectionError(message=f"Redis: {error}", request=request) from error
        result = json.loads(answer[1]) if answer else {"http_status": None, "reason": "no answer", "error": "does a worker run?"}
        if result["http_status"] is None:
            raise openai.APIConnectionError(message=f"task {id}: {result['reason']}: {result['error']}", request=request)
        content = base64.b64decode(result.get("body_base64", "")) or result.get("body_text", json.dumps(result.get("body"))).encode()
        headers = {name: value for name, value in result["headers"].items() if not LEFT_OUT.fullmatch(name)}
        return httpx2.Response(result["http_status"], headers=headers, content=content)
