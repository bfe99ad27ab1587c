"""Step 2, retries with backoff and jitter: a failure that passes is a delay."""

import os

from fastapi import FastAPI, HTTPException

from redial import AsyncRedial, CallFailed, WaitTimeout

app = FastAPI()
upstream = os.environ["UPSTREAM"]
redial = AsyncRedial(retry={"max_attempts": 6, "base_ms": 200, "cap_ms": 5000, "jitter": "full"})


@app.post("/labels")
async def label(ticket: dict):
    try:
        result = await redial.call(upstream, body=ticket, ttl_ms=30_000, timeout=30)
    except CallFailed as failed:
        raise HTTPException(502, f"{failed.reason}: {failed.result.error}")
    except WaitTimeout:
        raise HTTPException(504, "the model takes too long today")
    return result.json()
