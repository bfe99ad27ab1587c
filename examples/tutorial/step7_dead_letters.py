"""Step 7, dead letters: what cannot succeed today is kept, explained, and run again when its cause is gone."""

import os

from fastapi import FastAPI, HTTPException

from redial import AsyncRedial

app = FastAPI()
upstream = os.environ["UPSTREAM"]
redial = AsyncRedial()


@app.post("/labels", status_code=202)
async def start(ticket: dict):
    task = await redial.enqueue(upstream, body=ticket, meta={"ticket": ticket.get("number")}, reply=False)
    return {"id": task.id}


@app.get("/labels/{id}")
async def label(id: str):
    result = await redial.result(id)
    if result is None:
        return {"id": id, "label": "pending"}
    if not result.ok:
        raise HTTPException(502, f"{result.reason}: {result.error}; `redial dead replay {id}` tries again")
    return {"id": id, "label": result.json()}
