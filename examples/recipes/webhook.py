"""Tells customers' endpoints that something happened: python webhook.py ENDPOINT..."""

import hashlib
import hmac
import json
import sys
from urllib.parse import urlsplit

from redial import Redial

SECRET = b"one for each customer, from your database"

redial = Redial(
    ttl_ms=86_400_000,  # A day of attempts: endpoints are down overnight.
    retry={"max_attempts": 20, "base_ms": 5_000, "cap_ms": 3_600_000},
)


def send(endpoint: str, event: dict):
    body = json.dumps(event, separators=(",", ":"))
    headers = {
        "content-type": "application/json",
        "x-event-id": event["id"],  # The same in every attempt, so that the receiver recognizes a repetition.
        "x-signature-256": "sha256=" + hmac.new(SECRET, body.encode(), hashlib.sha256).hexdigest(),
    }
    host = urlsplit(endpoint).netloc
    return redial.enqueue(
        endpoint,
        method="POST",
        headers=headers,
        body_text=body,  # The bytes that were signed.
        tenant=host[:64],
        limit={"name": f"webhooks to {host}", "rate": 10, "concurrency": 4},
    )


tasks = [send(endpoint, {"id": f"evt_{n}", "type": "order.paid"}) for n, endpoint in enumerate(sys.argv[1:])]
for result in redial.as_completed(tasks, timeout=60):
    print(result.status, result.http_status, len(result.attempts))
redial.close()
