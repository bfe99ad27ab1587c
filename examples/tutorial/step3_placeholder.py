"""Step 3, a queue and a placeholder: the user has an answer at once, and the label when there is one."""

import os

from fastapi import FastAPI

from redial import AsyncRedial

app = FastAPI()
upstream = os.environ["UPSTREAM"]
redial = AsyncRedial()


@app.post("/labels", status_code=202)
async def start(ticket: dict):
    task = await redial.enqueue(upstream, body=ticket, reply=False)
    return {"id": task.id, "label": "pending"}


@app.get("/labels/{id}")
async def label(id: str):
    result = await redial.result(id)
    if result is None:
        return {"id": id, "label": "pending"}
    return {"id": id, "label": result.json() if result.ok else "unknown"}
