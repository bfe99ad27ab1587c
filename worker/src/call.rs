//! The call: one attempt on the wire, bounded in time and size.

mod failure;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use http::HeaderMap;
use redial_core::Task;
use reqwest::Client;

use crate::config::Config;
use crate::guard::Guard;
use crate::lock::locked;

pub use failure::Failure;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, decompressed.
    pub body: Vec<u8>,
}

/// What became of an attempt.
pub type Called = Result<Answer, Failure>;

/// Makes calls. One for the whole process: it holds the idle connections.
#[derive(Debug)]
pub struct Caller {
    guard: Guard,
    max_answer_bytes: usize,
    idle_per_host: usize,
    /// A client for each connect timeout in use, the latest last: reqwest has it per client, a task has its own.
    clients: Mutex<VecDeque<(Duration, Client)>>,
}

/// The most connect timeouts in use at a time. A task with another one costs another its idle connections, no more.
const MAX_CLIENTS: usize = 8;
/// How long an idle connection is kept: less than the minute after which common load balancers drop it without a word.
const IDLE: Duration = Duration::from_secs(45);

impl Caller {
    /// A caller within the bounds of the configuration.
    ///
    /// # Errors
    /// The HTTP client can't be built: most likely the system's root certificates can't be read.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let caller = Self {
            guard: Guard::new(&config.allow_private),
            max_answer_bytes: config.max_answer_bytes,
            idle_per_host: config.concurrency,
            clients: Mutex::default(),
        };
        // Reading the system's certificates takes tens of milliseconds: not in the first task's time.
        caller.client(redial_core::protocol::task::CONNECT_TIMEOUT)?;
        Ok(caller)
    }

    /// Makes one attempt, with these headers besides the task's own.
    ///
    /// # Errors
    /// A [`Failure`] where there is no whole answer. Any status is an answer.
    pub async fn call(&self, task: &Task, added: HeaderMap) -> Called {
        self.guard.check_literal(&task.url).map_err(|forbidden| Failure::ForbiddenTarget(forbidden.to_string()))?;
        let client = self.client(task.connect_timeout)?;
        match tokio::time::timeout(task.timeout, self.exchange(&client, task, added)).await {
            Ok(called) => called,
            Err(_) => Err(Failure::Timeout),
        }
    }

    async fn exchange(&self, client: &Client, task: &Task, added: HeaderMap) -> Called {
        let mut request = client.request(task.method.clone(), task.url.clone()).headers(task.headers.clone());
        if !added.is_empty() {
            request = request.headers(added);
        }
        if let Some(body) = &task.body {
            request = request.body(body.clone());
        }
        let mut response = request.send().await.map_err(|error| Failure::from_reqwest(&error))?;
        let mut answer = Answer {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body: Vec::new(),
        };
        // Counted as it comes and after decompression: neither a wrong Content-Length nor a zip bomb fills the memory.
        while let Some(chunk) = response.chunk().await.map_err(|error| Failure::from_reqwest(&error))? {
            if answer.body.len() + chunk.len() > self.max_answer_bytes {
                return Err(Failure::AnswerTooLarge(self.max_answer_bytes));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    fn client(&self, connect_timeout: Duration) -> Result<Client, Failure> {
        // A panic of another thread leaves a list of clients that is whole.
        let mut clients = locked(&self.clients);
        if let Some((_, client)) = clients.iter().find(|(timeout, _)| *timeout == connect_timeout) {
            return Ok(client.clone());
        }
        let client = self.build(connect_timeout).map_err(|error| Failure::Other(format!("{error:#}")))?;
        if clients.len() == MAX_CLIENTS {
            clients.pop_front();
        }
        clients.push_back((connect_timeout, client.clone()));
        Ok(client)
    }

    fn build(&self, connect_timeout: Duration) -> anyhow::Result<Client> {
        Client::builder()
            .user_agent(concat!("redial/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .dns_resolver(self.guard.clone())
            // A redirect may lead anywhere, with the task's credentials; a proxy from the environment sees them all.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            // Retries are Redial's own: they wait in Redis and are counted.
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(self.idle_per_host)
            .pool_idle_timeout(IDLE)
            .build()
            .context("the HTTP client can't be built; without root certificates (Debian: ca-certificates) no TLS can be checked")
    }
}
