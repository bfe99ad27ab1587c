"""Step 4, a cache: the same question is paid for once, also by a thousand users who ask it at the same moment."""

import os

from fastapi import FastAPI

from redial import AsyncRedial

app = FastAPI()
upstream = os.environ["UPSTREAM"]
redial = AsyncRedial(cache_ttl_ms=600_000)


@app.post("/labels")
async def label(ticket: dict):
    result = await redial.call(upstream, body=ticket, timeout=30)
    return {"label": result.json(), "source": result.source}
