"""Asks a model through Redial: REDIS_URL=redis://127.0.0.1:6379 python3 ask.py 'Why is the sky blue?'"""
import os
import sys

import httpx2
from openai import OpenAI

from redial_openai import RedialTransport

redial = RedialTransport(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
client = OpenAI(http_client=httpx2.Client(transport=redial), max_retries=0, api_key="the worker has it")

answer = client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": sys.argv[1]}])
print(answer.choices[0].message.content)
