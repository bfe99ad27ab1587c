//! A program of two lines that knows nothing of Redial: OpenAI's own SDK, with the gateway as its base URL.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use redial_tests::{GatewayProcess, Upstream};
use serde_json::json;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::chat;

/// For the installation of the SDK, most of which happens while the prompts are answered.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(60);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// OpenAI's SDK for Python, in a folder of its own.
pub(crate) struct Sdk(JoinHandle<Option<PathBuf>>);

impl Sdk {
    /// Starts to install it.
    pub(crate) fn install() -> Self {
        Self(tokio::spawn(async { tokio::time::timeout(INSTALL_TIMEOUT, install()).await.unwrap_or_default() }))
    }

    /// Runs the program, and shows what its caller does not see. Without Python or a network, the same request is made without the
    /// SDK.
    pub(crate) async fn show(self, redis_url: &str, api: &Upstream) -> anyhow::Result<()> {
        let settings = format!("[[upstream]]\nurl = \"{}\"\nname = \"openai\"\n", api.url("/v1"));
        let gateway = GatewayProcess::start(redis_url, &settings).await;
        let base_url = gateway.url("/u/openai");
        let prompt = chat::prompt_that_fails_twice().context("a prompt on which the API fails")?;
        let before = api.count();
        println!("A program that knows nothing of Redial. Its base URL is that of the gateway, `redial serve`:\n");
        let python = self.0.await.unwrap_or_default();
        let answer = match python {
            Some(python) => by_sdk(&python, &base_url, &prompt).await?,
            None => by_hand(&gateway, &base_url, &prompt).await?,
        };
        let calls = api.count() - before;
        println!("\n  {answer}\n");
        println!(
            "The API was called {calls} times for this, as it was overloaded at first. The program saw none of that.\n"
        );
        Ok(())
    }
}

async fn install() -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.with_file_name("demo-venv");
    let python = folder.join("bin/python");
    let quietly = async |program: &PathBuf, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command.status().await.is_ok_and(|status| status.success())
    };
    if !quietly(&python, &["-c", "import openai"]).await {
        let made = quietly(&"python3".into(), &["-m", "venv", "--clear", folder.to_str()?]).await;
        let pip = ["-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "15", "openai"];
        if !made || !quietly(&python, &pip).await {
            return None;
        }
    }
    Some(python)
}

async fn by_sdk(python: &PathBuf, base_url: &str, prompt: &str) -> anyhow::Result<String> {
    let program = format!(
        "from openai import OpenAI\n\
         print(OpenAI().chat.completions.create(model=\"stand-in-1\", messages=[{{\"role\": \"user\", \"content\": \"{prompt}\"}}])\
         .choices[0].message.content)"
    );
    println!("  export OPENAI_BASE_URL={base_url} OPENAI_API_KEY=unused");
    for line in program.lines() {
        println!("  {line}");
    }
    let mut command = Command::new(python);
    command.args(["-c", &program]).env("OPENAI_BASE_URL", base_url).env("OPENAI_API_KEY", "unused");
    let ended = tokio::time::timeout(CALL_TIMEOUT, command.kill_on_drop(true).output()).await;
    let output = ended.context("the program did not end in time")??;
    ensure!(output.status.success(), "the program failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

async fn by_hand(gateway: &GatewayProcess, base_url: &str, prompt: &str) -> anyhow::Result<String> {
    let body = json!({"model": "stand-in-1", "messages": [{"role": "user", "content": prompt}]}).to_string();
    println!("  curl {base_url}/chat/completions --json '{body}'");
    println!("  (OpenAI's SDK could not be installed: it needs Python with venv, and a network.)");
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    let answer = gateway.send("POST", "/u/openai/chat/completions", json, body.as_bytes()).await;
    ensure!(answer.status == 200, "the gateway answered {}: {}", answer.status, answer.text());
    Ok(answer.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned())
}
