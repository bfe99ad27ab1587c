"""Asks a model through Redial: REDIS_URL=redis://127.0.0.1:6379 python3 ask.py 'Why is the sky blue?'"""

import sys

import redial

client = redial.openai()

answer = client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": sys.argv[1]}])
print(answer.choices[0].message.content)
