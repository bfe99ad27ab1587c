"""A service whose slow calls Redial makes: REDIS_URL=... UPSTREAM=https://example.com/v1/extract uvicorn app:app"""
import json
import os
import uuid

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from redis.asyncio import Redis

app = FastAPI()
# BRPOP ends by its own time, not by the client's default of 5 s. A request that waits holds a connection of the pool.
redis = Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), socket_timeout=None)
upstream = os.environ["UPSTREAM"]  # Whoever calls this service says what is sent, not where to.


async def push(body, **fields):
    id = str(uuid.uuid4())
    await redis.lpush("redial:{default}", json.dumps({"id": id, "url": upstream, "body": body, **fields}))
    return id


@app.post("/calls", status_code=202)
async def begin(body: dict):
    return {"id": await push(body)}


@app.get("/calls/{id}")
async def look(id: str):
    if (result := await redis.get(f"redial:{{default}}:result:{id}")) is None:
        raise HTTPException(404, "no result: it is not there yet, is over an hour old, or was never asked for")
    return json.loads(result)


@app.post("/ask")
async def ask(body: dict):
    answers = f"answers:{{default}}:{uuid.uuid4()}"
    id = await push(body, reply_to=answers)
    if (answer := await redis.brpop([answers], timeout=30)) is None:  # The call goes on: its result can be had later.
        return JSONResponse({"id": id}, 202)
    return json.loads(answer[1])
