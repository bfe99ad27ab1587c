"""A service whose slow calls Redial makes: REDIS_URL=... UPSTREAM=https://example.com/v1/extract uvicorn app:app"""

import contextlib
import os

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import JSONResponse

from redial import AsyncRedial, Result, WaitTimeout

redial = AsyncRedial()
upstream = os.environ["UPSTREAM"]  # Clients of this service choose what is sent, not where it goes.


@contextlib.asynccontextmanager
async def lifespan(app):
    async with redial:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/calls", status_code=202)
async def start(body: dict):
    task = await redial.enqueue(upstream, body=body, reply=False)
    return {"id": task.id}


@app.get("/calls/{id}")
async def result(id: str):
    if (result := await redial.result(id)) is None:
        raise HTTPException(404, "no result: the call is still running, finished over an hour ago, or was never made")
    return answer(result)


@app.post("/ask")
async def ask(body: dict):
    try:
        return answer(await redial.call(upstream, body=body, timeout=30, check=False))
    except WaitTimeout as late:  # The call goes on. Its result will be at /calls/{id}.
        return JSONResponse({"id": late.ids[0]}, 202)


def answer(result: Result):
    """The upstream's answer, or why there is none."""
    if not result.ok:
        raise HTTPException(502, f"task {result.id}: {result.reason}: {result.error}")
    return Response(result.content, media_type=result.headers.get("content-type"))
