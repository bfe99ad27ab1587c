"""Many callers of one client at once, each of whom must get its own answer: CALLERS=500 python callers.py threads|tasks"""
import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2
from openai import AsyncOpenAI, OpenAI

from redial_openai import RedialTransport

n, redial = int(os.environ["CALLERS"]), RedialTransport(os.environ["REDIS_URL"])
options = {"max_retries": 0, "api_key": "the worker has it"}


def request(caller):
    return {"model": "stand-in-1", "messages": [{"role": "user", "content": f"caller {caller}"}]}


def check(caller, answer):
    assert answer.choices[0].message.content == f"You said: caller {caller}", (caller, answer)


def ask_from_threads():
    client = OpenAI(http_client=httpx2.Client(transport=redial), **options)
    with ThreadPoolExecutor(n) as threads:
        for caller, answer in enumerate(threads.map(lambda c: client.chat.completions.create(**request(c)), range(n))):
            check(caller, answer)


async def ask_from_tasks():
    client = AsyncOpenAI(http_client=httpx2.AsyncClient(transport=redial), **options)

    async def ask(caller):
        check(caller, await client.chat.completions.create(**request(caller)))

    await asyncio.gather(*map(ask, range(n)))


ask_from_threads() if sys.argv[1] == "threads" else asyncio.run(ask_from_tasks())
print(f"{n} answered")
