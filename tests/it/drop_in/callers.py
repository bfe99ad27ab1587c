"""Many callers of one client at once, each of whom must get its own answer: CALLERS=500 python callers.py threads|tasks"""
import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import redial

n = int(os.environ["CALLERS"])


def request(caller):
    return {"model": "stand-in-1", "messages": [{"role": "user", "content": f"caller {caller}"}]}


def check(caller, answer):
    assert answer.choices[0].message.content == f"You said: caller {caller}", (caller, answer)


def ask_from_threads():
    client = redial.openai()
    with ThreadPoolExecutor(n) as threads:
        for caller, answer in enumerate(threads.map(lambda c: client.chat.completions.create(**request(c)), range(n))):
            check(caller, answer)


async def ask_from_tasks():
    client = redial.async_openai()

    async def ask(caller):
        check(caller, await client.chat.completions.create(**request(caller)))

    await asyncio.gather(*map(ask, range(n)))


ask_from_threads() if sys.argv[1] == "threads" else asyncio.run(ask_from_tasks())
print(f"{n} answered")
