"""Step 6, limits: the whole fleet stays below the rate that the upstream allows, and no customer takes it all."""

import os

from fastapi import FastAPI

from redial import AsyncRedial

app = FastAPI()
upstream = os.environ["UPSTREAM"]
redial = AsyncRedial(limit={"name": "model", "rate": 5, "burst": 1})


@app.post("/customers/{customer}/labels")
async def label(customer: str, ticket: dict):
    result = await redial.call(upstream, body=ticket, tenant=customer, timeout=60)
    return result.json()
