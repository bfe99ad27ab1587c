"""Asks a model through the gateway: OPENAI_BASE_URL=http://127.0.0.1:8080/u/openai python3 ask.py 'Why is the sky blue?'"""
import sys

from openai import OpenAI

client = OpenAI(api_key="the worker has it")
answer = client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": sys.argv[1]}])
print(answer.choices[0].message.content)
