"""Unchanged programs of the SDKs of OpenAI, Anthropic and LangChain, with a base URL as the only change: BASE=http://... python sdks.py"""
import asyncio
import os

import anthropic
import openai
from langchain_openai import ChatOpenAI

base = os.environ["BASE"]
options = {"base_url": f"{base}/u/openai", "api_key": "the worker has it"}
client, asynchronous = openai.OpenAI(**options), openai.AsyncOpenAI(**options)


def chat(prompt, **more):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}


def text(answer):
    return answer.choices[0].message.content


def joined(events):
    return "".join(event.choices[0].delta.content or "" for event in events if event.choices)


def fails(error, call):
    try:
        call()
    except error as raised:
        return raised
    raise AssertionError(f"{error} was not raised")


def check_openai():
    assert text(client.chat.completions.create(**chat("hello"))) == "You said: hello"
    assert text(client.chat.completions.create(**chat("overloaded twice"))) == "You said: overloaded twice"
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    call = client.chat.completions.create(**chat("call a tool", tools=[tool])).choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Köln"}'), call
    assert client.embeddings.create(model="m", input="x", encoding_format="float").data[0].embedding == [0.25, -1.5]
    uploaded = client.files.create(file=("lines.jsonl", b'{"a": 1}\n\xff'), purpose="batch")
    assert uploaded.filename == "lines.jsonl", uploaded
    assert joined(client.chat.completions.create(**chat("stream", stream=True))) == "You said: stream"
    refused = fails(openai.BadRequestError, lambda: client.chat.completions.create(**chat("too long")))
    assert "This model takes less." in refused.message and refused.body["type"] == "refused", refused.body
    down = fails(openai.InternalServerError, lambda: client.chat.completions.create(**chat("always overloaded")))
    assert down.status_code == 503 and down.response.headers["redial-attempts"] == "3", down
    broken = fails(openai.InternalServerError, lambda: client.chat.completions.create(**chat("always broken")))
    assert broken.status_code == 504 and broken.code == "attempts_exhausted", broken
    unknown = openai.OpenAI(base_url=f"{base}/u/unknown", api_key="x", max_retries=0)
    missing = fails(openai.NotFoundError, lambda: unknown.chat.completions.create(**chat("hello")))
    assert "no [[upstream]]" in str(missing), missing


async def check_asynchronous():
    answers = await asyncio.gather(*(asynchronous.chat.completions.create(**chat(f"caller {n}")) for n in range(300)))
    assert [text(answer) for answer in answers] == [f"You said: caller {n}" for n in range(300)]
    stream = await asynchronous.chat.completions.create(**chat("stream", stream=True))
    assert joined([event async for event in stream]) == "You said: stream"


def check_anthropic():
    for key in ({"api_key": "the worker has it"}, {"auth_token": "the worker has it"}):
        claude = anthropic.Anthropic(base_url=f"{base}/u/anthropic", **key)
        ask = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
        assert claude.messages.create(**ask).content[0].text == "You said: hello"
        ask["messages"][0]["content"] = "too long"
        refused = fails(anthropic.BadRequestError, lambda: claude.messages.create(**ask))
        assert "This model takes less." in str(refused), refused


async def check_langchain():
    model = ChatOpenAI(model="m", **options)
    assert model.invoke("hello").content == "You said: hello"
    assert (await model.ainvoke("hello")).content == "You said: hello"
    assert "".join(chunk.content for chunk in model.stream("stream")) == "You said: stream"
    assert "".join([chunk.content async for chunk in model.astream("stream")]) == "You said: stream"


check_openai()
asyncio.run(check_asynchronous())
check_anthropic()
asyncio.run(check_langchain())
print("all is well")
