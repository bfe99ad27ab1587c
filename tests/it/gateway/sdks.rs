//! The official SDKs of OpenAI and Anthropic, LangChain, and Vercel's: unchanged programs, with a base URL as the only change.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use redial_tests::{GatewayProcess, RedisServer, Reply, Request, Upstream, Worker};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::drop_in::install;

const KEY: &str = "sk-of-the-worker";

fn prompt(request: &Request) -> String {
    request.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned()
}

fn refusal(status: u16, message: &str) -> Reply {
    let error = json!({"message": message, "type": "refused", "code": null, "param": null});
    Reply::status(status).json(&json!({"type": "error", "error": error}))
}

fn message(content: &Value, tool_calls: &Value) -> Value {
    let message = json!({"role": "assistant", "content": content, "tool_calls": tool_calls});
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
}

fn events(text: &str) -> String {
    let chunk = |content: &str| {
        let delta = json!({"role": "assistant", "content": content});
        let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
        format!("data: {chunk}\n\n")
    };
    text.split_inclusive(' ').map(chunk).collect::<String>() + "data: [DONE]\n\n"
}

/// The API's reply to the nth call with a prompt.
fn reply(request: &Request, nth: u32) -> Reply {
    let key = request.headers.get("authorization").or_else(|| request.headers.get("x-api-key"));
    if key.map(|key| key.trim_start_matches("Bearer ")) != Some(KEY) {
        return refusal(401, "Incorrect API key provided.");
    }
    let said = format!("You said: {}", prompt(request));
    match (request.route(), prompt(request).as_str(), nth) {
        (_, "overloaded twice", 1 | 2) | (_, "always overloaded", _) => refusal(503, "The engine is overloaded."),
        (_, "always broken", _) => Reply::reset(),
        (_, "too long", _) => refusal(400, "This model takes less."),
        ("/v1/messages", ..) => {
            Reply::ok().json(&json!({"id": "m1", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": said}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 1, "output_tokens": 1}}))
        }
        ("/v1/embeddings", ..) => Reply::ok().json(&json!({"object": "list", "model": "m",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}],
            "usage": {"prompt_tokens": 1, "total_tokens": 1}})),
        ("/v1/files", ..) => {
            let has = |part: &[u8]| request.body.windows(part.len()).any(|window| window == part);
            let name = if has(b"{\"a\": 1}\n\xff") { "lines.jsonl" } else { "altered" };
            Reply::ok().json(&json!({"id": "f1", "object": "file", "bytes": 10, "created_at": 1, "filename": name,
                "purpose": "batch", "status": "processed"}))
        }
        (_, "call a tool", _) => {
            let function = json!({"name": "weather", "arguments": "{\"city\": \"Köln\"}"});
            Reply::ok().json(&message(&Value::Null, &json!([{"id": "t1", "type": "function", "function": function}])))
        }
        _ if request.json()["stream"] == true => {
            Reply::ok().header("content-type", "text/event-stream").body(events(&said))
        }
        _ => Reply::ok().json(&message(&json!(said), &Value::Null)),
    }
}

/// Redis, the API under two names, a worker that has its keys, and a gateway.
struct SdkDesk {
    api: Upstream,
    gateway: GatewayProcess,
    folder: PathBuf,
    _worker: Worker,
    _redis: RedisServer,
}

impl SdkDesk {
    async fn new(folder: PathBuf) -> Self {
        let calls: Mutex<HashMap<String, u32>> = Mutex::default();
        let api = Upstream::on_all_addresses(move |request| {
            let mut calls = calls.lock().unwrap();
            let nth = calls.entry(prompt(request)).or_default();
            *nth += 1;
            reply(request, *nth)
        })
        .await;
        let redis = RedisServer::start().await;
        let (port, retry) = (api.address().port(), "retry = { max_attempts = 3, base_ms = 20 }\n");
        // As in the documentation: the worker has the keys. Two addresses of this machine, so that each API is an upstream of its own.
        let settings = format!(
            "[[upstream]]\nname = \"openai\"\nurl = \"http://127.0.0.1:{port}/v1/\"\n\
             headers = {{ Authorization = \"Bearer {KEY}\" }}\n{retry}\
             [[upstream]]\nname = \"anthropic\"\nurl = \"http://127.0.0.2:{port}/\"\nheaders = {{ x-api-key = \"{KEY}\" }}\n{retry}"
        );
        let gateway = GatewayProcess::start(&redis, &settings).await;
        let file = folder.join("redial-of-test.toml");
        std::fs::write(&file, &settings).unwrap();
        let worker = Worker::builder(&redis).arg("--config").arg(file.to_str().unwrap()).spawn();
        Self { api, gateway, folder, _worker: worker, _redis: redis }
    }

    /// Runs the example, and then a program that checks everything.
    async fn keeps_its_promises(&self, program: &str, example: &str, checks: &str) {
        install::write(&self.folder.join(checks), &install::text(&format!("tests/it/gateway/{checks}")));
        for (file, argument, printed) in [(example, "hello", "You said: hello"), (checks, "", "all is well")] {
            let mut command = Command::new(program);
            command.args([file, argument]).current_dir(&self.folder).env("BASE", self.gateway.url(""));
            command.env("OPENAI_BASE_URL", self.gateway.url("/u/openai")).env_remove("OPENAI_API_KEY");
            let ended = install::run(&mut command).await.unwrap();
            let log = self.gateway.log();
            assert!(ended.success && ended.stdout.trim() == printed, "{file}: {}{}\n{log}", ended.stdout, ended.stderr);
        }
        // Redial made all the attempts, and the SDKs found nothing to do.
        for exhausted in ["always overloaded", "always broken"] {
            let made = self.api.calls().iter().filter(|call| prompt(call) == exhausted).count();
            assert_eq!(made, 3, "{exhausted}");
        }
    }
}

#[tokio::test]
async fn unchanged_programs_of_the_openai_anthropic_and_langchain_sdks_succeed_by_their_base_url() {
    let Some(folder) = install::python("examples/gateway/python").await else { return };
    let python = folder.join("venv/bin/python");
    SdkDesk::new(folder).await.keeps_its_promises(python.to_str().unwrap(), "ask.py", "sdks.py").await;
}

#[tokio::test]
async fn unchanged_programs_of_the_openai_and_vercel_sdks_of_node_succeed_by_their_base_url() {
    let Some(folder) = install::node("examples/gateway/node").await else { return };
    SdkDesk::new(folder).await.keeps_its_promises("node", "ask.js", "sdks.mjs").await;
}
