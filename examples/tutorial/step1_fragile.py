"""Step 1, the fragile call: whatever goes wrong at the upstream goes wrong for the user."""

import os

import httpx
from fastapi import FastAPI, HTTPException

app = FastAPI()
upstream = os.environ["UPSTREAM"]


@app.post("/labels")
async def label(ticket: dict):
    async with httpx.AsyncClient(timeout=10) as client:
        response = await client.post(upstream, json=ticket)
    if response.is_error:
        raise HTTPException(502, f"the model answered {response.status_code}")
    return response.json()
