//! Makes one attempt: a request and its response, bounded in time and size.

use std::collections::VecDeque;
use std::time::Duration;

use http::HeaderMap;
use ipnet::IpNet;
use parking_lot::Mutex;
use redial_core::Task;
use reqwest::Client;

use super::guard::Guard;
use super::types::{AttemptResult, Failure, Response};

/// Makes attempts. One per process: it holds the idle connections.
#[derive(Debug)]
pub struct HttpClient {
    guard: Guard,
    max_response_bytes: usize,
    idle_per_host: usize,
    /// One client per connect timeout in use, the latest last: a task chooses the timeout, reqwest sets it per client.
    clients: Mutex<VecDeque<(Duration, Client)>>,
}

/// How many connect timeouts are in use at a time. One more evicts a client with its idle connections, nothing else.
const MAX_CLIENTS: usize = 8;
/// How long an idle connection is kept: less than the minute after which common load balancers silently drop it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

impl HttpClient {
    /// A client that reaches public addresses and these `allowed` networks. It rejects larger responses, and keeps that many idle
    /// connections per host.
    ///
    /// # Errors
    /// The HTTP client cannot be built, most likely because the system's root certificates cannot be read.
    pub fn new(allowed: &[IpNet], max_response_bytes: usize, idle_per_host: usize) -> Result<Self, Failure> {
        let client = Self { guard: Guard::new(allowed), max_response_bytes, idle_per_host, clients: Mutex::default() };
        // Reading the system's certificates takes tens of milliseconds, which the first task should not pay.
        client.client(redial_core::protocol::task::CONNECT_TIMEOUT)?;
        Ok(client)
    }

    /// Makes one attempt with the task's headers, replaced or completed by `added`, and with `body`.
    ///
    /// # Errors
    /// There is no complete response: see [`Failure`]. Any status is a response.
    pub async fn call(&self, task: &Task, added: HeaderMap, body: Option<&Vec<u8>>) -> AttemptResult {
        self.guard.check_literal(&task.url).map_err(|forbidden| Failure::ForbiddenTarget(forbidden.to_string()))?;
        let client = self.client(task.connect_timeout)?;
        match tokio::time::timeout(task.timeout, self.exchange(&client, task, added, body)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        }
    }

    async fn exchange(&self, client: &Client, task: &Task, added: HeaderMap, body: Option<&Vec<u8>>) -> AttemptResult {
        let mut request = client.request(task.method.clone(), task.url.clone()).headers(task.headers.clone());
        if !added.is_empty() {
            request = request.headers(added);
        }
        if let Some(body) = body {
            request = request.body(body.clone());
        }
        let mut incoming = request.send().await.map_err(|error| Failure::from_reqwest(&error))?;
        let mut response = Response {
            status: incoming.status().as_u16(),
            headers: std::mem::take(incoming.headers_mut()),
            body: Vec::new(),
        };
        // Counted while it arrives and after decompression: neither a wrong Content-Length nor a zip bomb fills the memory.
        while let Some(chunk) = incoming.chunk().await.map_err(|error| Failure::from_reqwest(&error))? {
            if response.body.len() + chunk.len() > self.max_response_bytes {
                return Err(Failure::ResponseTooLarge(self.max_response_bytes));
            }
            response.body.extend_from_slice(&chunk);
        }
        Ok(response)
    }

    fn client(&self, connect_timeout: Duration) -> Result<Client, Failure> {
        let mut clients = self.clients.lock();
        if let Some((_, client)) = clients.iter().find(|(timeout, _)| *timeout == connect_timeout) {
            return Ok(client.clone());
        }
        let client = self.build(connect_timeout)?;
        if clients.len() == MAX_CLIENTS {
            clients.pop_front();
        }
        clients.push_back((connect_timeout, client.clone()));
        Ok(client)
    }

    fn build(&self, connect_timeout: Duration) -> Result<Client, Failure> {
        Client::builder()
            .user_agent(concat!("redial/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .dns_resolver(self.guard.clone())
            // A redirect could carry the task's credentials anywhere, and a proxy from the environment would see them.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            // Redial retries on its own terms: retries wait in Redis and are counted.
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(self.idle_per_host)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build()
            .map_err(|error| {
                Failure::Other(format!(
                    "cannot build the HTTP client; are root certificates installed (Debian: ca-certificates)? {error}"
                ))
            })
    }
}
