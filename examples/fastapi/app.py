"""A service whose slow calls Redial makes: REDIS_URL=... UPSTREAM=https://example.com/v1/extract uvicorn app:app"""
import asyncio
import contextlib
import os

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse

from redial import Redial

redial = Redial(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
upstream = os.environ["UPSTREAM"]  # Clients of this service choose what is sent, not where it goes.


@contextlib.asynccontextmanager
async def lifespan(app):
    reader = asyncio.create_task(redial.read_answers())
    yield
    reader.cancel()
    await redial.close()


app = FastAPI(lifespan=lifespan)


@app.post("/calls", status_code=202)
async def start(body: dict):
    return {"id": await redial.push(url=upstream, body=body)}


@app.get("/calls/{id}")
async def result(id: str):
    if (result := await redial.result(id)) is None:
        raise HTTPException(404, "no result: the call is still running, finished over an hour ago, or was never made")
    return result


@app.post("/ask")
async def ask(body: dict):
    id, result = await redial.call(wait_s=30, url=upstream, body=body)
    if result is None:  # The call goes on. Its result will be at /calls/{id}.
        return JSONResponse({"id": id}, 202)
    return result
