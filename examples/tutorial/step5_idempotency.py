"""Step 5, idempotency: a refund is made once, however often the user clicks and whatever breaks in between."""

import os

from fastapi import FastAPI, HTTPException

from redial import AsyncRedial

app = FastAPI()
upstream = os.environ["UPSTREAM"]
redial = AsyncRedial()


@app.post("/orders/{order}/refund")
async def refund(order: str, amount: int):
    body = {"order": order, "amount": amount}
    result = await redial.call(
        upstream, body=body, idempotency_key=f"refund-{order}", effect="once", timeout=30, check=False
    )
    if result.reason == "idempotency_mismatch":
        raise HTTPException(409, "this order was refunded with another amount")
    if result.reason == "outcome_unknown":  # The connection broke after the call was sent: a person has to look.
        raise HTTPException(502, f"nobody knows whether order {order} was refunded; we are looking into it")
    if not result.ok:
        raise HTTPException(502, f"not refunded: {result.error}")
    return result.json()
