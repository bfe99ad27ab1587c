"""What the Python peers have in common: the payload and the HTTP clients, kept alive."""
import json
import os
import threading

PAYLOAD = json.loads(os.environ.get("PAYLOAD", "{}"))
HOLDER = threading.local()


def session(concurrency):
    """The client of the async peers."""
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency))


def post(url, body):
    """The call of the peers with threads: `requests`, a session for each, as a session is not safe to share."""
    import requests

    if not hasattr(HOLDER, "session"):
        HOLDER.session = requests.Session()
        HOLDER.session.trust_env = False  # Reads proxies from the environment for every call otherwise.
    answer = HOLDER.session.post(url, json=body)
    answer.raise_for_status()
    return answer.json()


def run(coroutine):
    import uvloop

    uvloop.run(coroutine)
