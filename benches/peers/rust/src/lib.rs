//! What the queues in Rust have in common: the task, and the call that it stands for, by the HTTP client that Redial uses.

use std::sync::LazyLock;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many tasks are pushed at a time, where several can be.
pub const BULK: usize = 500;

/// The same allocator as Redial's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    /// Where to call.
    pub url: String,
    /// The body of the call.
    pub body: Value,
}

impl Work {
    /// That of the environment.
    pub fn read() -> anyhow::Result<Self> {
        Ok(serde_json::from_str(&variable("PAYLOAD")?)?)
    }

    /// Makes the call. The answer is what the queue stores.
    pub async fn call(&self) -> anyhow::Result<Value> {
        static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
            reqwest::Client::builder().no_proxy().build().expect("the settings of the client are constant")
        });
        let answer = CLIENT.post(&self.url).json(&self.body).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }
}

/// What the program is to do.
pub enum Request {
    /// Push so many tasks.
    Enqueue(usize),
    /// Work on so many at a time.
    Work(usize),
}

impl Request {
    /// That of the command line.
    pub fn read() -> anyhow::Result<Self> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["enqueue", tasks] => Ok(Self::Enqueue(tasks.parse()?)),
            ["work", at_once] => Ok(Self::Work(at_once.parse()?)),
            _ => anyhow::bail!("usage: enqueue TASKS, or work AT_ONCE"),
        }
    }
}

/// Where Redis is.
pub fn redis_url() -> anyhow::Result<String> {
    variable("REDIS_URL")
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}
