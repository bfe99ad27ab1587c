//! Makes one attempt: a request and its response, bounded in time and size.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use parking_lot::Mutex;
use redial_core::protocol::task::Effect;
use redial_core::{Task, container};
use url::Url;

use super::answer_memory::HeldMemory;
use super::connection::descriptors::Descriptors;
use super::connection::guard::Guard;
use super::connection::pools::{PooledClient, Pools, TimeoutCause};
use super::connection::transport::InvalidTransport;
use super::credentials::oauth::OAuthClient;
use super::credentials::tokens::{AccessToken, AccessTokens, NoToken};
use super::decode::{self, BodyDecoder};
use super::redirect::Hop;
use super::relay::{AnswerReading, BodyRelay};
use super::types::{AttemptResult, Failure, Response};
use crate::config::{Reloadable, Upstreams};

/// How long a call waits for a free descriptor before it gives its slot to another task, and how often it looks.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(2);
const DESCRIPTOR_POLL: Duration = Duration::from_millis(50);
/// How often a shortage is logged while it lasts.
const SHORTAGE_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Why a proxy did not pass a call on.
const PROXY_LOGIN: &str = "the proxy wants another user or password: see proxy in the [[upstream]] block";

/// Makes attempts. One per process: it holds the idle connections.
#[derive(Debug)]
pub struct HttpClient {
    guard: Guard,
    max_response_bytes: usize,
    pools: Pools,
    descriptors: Descriptors,
    shortage_logged: Mutex<Option<Instant>>,
    tokens: AccessTokens,
}

impl HttpClient {
    /// A client that reaches what the guard lets pass. It rejects larger responses, keeps that many idle connections per host, and leaves
    /// some descriptors for others.
    ///
    /// # Errors
    /// The HTTP client cannot be built, most likely because the system's root certificates cannot be read.
    pub fn new(
        guard: Guard,
        max_response_bytes: usize,
        idle_per_host: usize,
        upstreams: Reloadable<Upstreams>,
        descriptors: Descriptors,
    ) -> Result<Self, InvalidTransport> {
        let pools = Pools::new(guard.clone(), idle_per_host, upstreams)?;
        Ok(Self {
            guard,
            max_response_bytes,
            pools,
            descriptors,
            shortage_logged: Mutex::default(),
            tokens: AccessTokens::default(),
        })
    }

    /// Makes one attempt with the task's headers, replaced or completed by `added`, and with `body`. `added_at` says what is added to the
    /// headers of a redirect, or why it must not be followed. The body is also passed on to the relay of `reading`, which ends with the call.
    /// The time in which the call waits for memory is not part of its timeout.
    ///
    /// # Errors
    /// There is no complete response: see [`Failure`]. Any status is a response.
    pub async fn call(
        &self,
        task: &Task,
        added: HeaderMap,
        body: Option<&Vec<u8>>,
        added_at: impl Fn(&Hop) -> Result<HeaderMap, String>,
        reading: AnswerReading<'_>,
    ) -> AttemptResult {
        self.guard.check_literal(&task.url).map_err(|forbidden| Failure::ForbiddenTarget(forbidden.to_string()))?;
        if !self.may_open() {
            self.wait_for_descriptor().await?;
        }
        let mut pooled = self.client_for(task, &task.url)?;
        let started = Instant::now();
        let result = {
            let exchange = pin!(self.follow(&mut pooled, task, added, body, added_at, &reading));
            in_time(task.timeout, reading.memory, exchange).await
        };
        let Some(result) = result else {
            let cause = match task.effect {
                Effect::Idempotent => self.pools.timed_out(&pooled, started)?,
                // A connection of its own cannot have died before.
                Effect::Once => TimeoutCause::Upstream,
            };
            return Err(match cause {
                TimeoutCause::Upstream => Failure::Timeout,
                TimeoutCause::Connection => Failure::ConnectionSilent,
            });
        };
        if let Err(Failure::LocalShortage(what)) = &result {
            self.pools.close_idle();
            self.report_shortage(what);
        }
        // An upstream may give up a connection from which nothing is read.
        result.map_err(|failure| {
            if is_broken_off(&failure) && reading.memory.has_waited() { Failure::MemorySpent } else { failure }
        })
    }

    /// An access token of this client.
    ///
    /// # Errors
    /// No token is available now.
    pub async fn access_token(&self, client: &OAuthClient) -> Result<AccessToken, NoToken> {
        let http = || self.pools.client_without_bounds(&client.token_url).map_err(|failure| failure.to_string());
        self.tokens.get(client, http).await
    }

    fn may_open(&self) -> bool {
        self.descriptors.may_open(|| self.pools.close_idle())
    }

    /// The connections of calls that end free their descriptors.
    async fn wait_for_descriptor(&self) -> Result<(), Failure> {
        let how = container::advice("docker run --ulimit nofile, ulimits: in docker-compose.yml", "ulimit -n");
        let what =
            format!("at most {} file descriptors for calls; raise the limit ({how})", self.descriptors.for_calls());
        self.report_shortage(&what);
        let start = Instant::now();
        while start.elapsed() < DESCRIPTOR_TIMEOUT {
            tokio::time::sleep(DESCRIPTOR_POLL.mul_f64(rand::random_range(0.5..1.5))).await;
            if self.may_open() {
                return Ok(());
            }
        }
        Err(Failure::LocalShortage(what))
    }

    fn report_shortage(&self, what: &str) {
        let mut logged = self.shortage_logged.lock();
        if logged.is_none_or(|at| at.elapsed() > SHORTAGE_LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::warn!(what, "this machine is short of something: calls wait, which uses no attempt");
        }
    }

    fn client_for(&self, task: &Task, url: &Url) -> Result<PooledClient, Failure> {
        match task.effect {
            Effect::Idempotent => self.pools.client(url, task.connect_timeout),
            Effect::Once => self.pools.client_without_idle(url, task.connect_timeout),
        }
    }

    /// Makes the task's request, and those that redirects ask for instead. `pooled` is the client of the request that is under way.
    async fn follow(
        &self,
        pooled: &mut PooledClient,
        task: &Task,
        added: HeaderMap,
        body: Option<&Vec<u8>>,
        added_at: impl Fn(&Hop) -> Result<HeaderMap, String>,
        reading: &AnswerReading<'_>,
    ) -> AttemptResult {
        let response = self.exchange(pooled, task, Hop::first(task), added, body, reading).await;
        if task.redirects == 0 {
            return response;
        }
        Box::pin(self.follow_redirects(response?, pooled, task, body, added_at, reading)).await
    }

    /// Makes the requests that this response and those after it ask for instead, as many as the task allows.
    async fn follow_redirects(
        &self,
        mut response: Response,
        pooled: &mut PooledClient,
        task: &Task,
        body: Option<&Vec<u8>>,
        added_at: impl Fn(&Hop) -> Result<HeaderMap, String>,
        reading: &AnswerReading<'_>,
    ) -> AttemptResult {
        let mut hop = Hop::first(task);
        while let Some(next) = hop.next(&response) {
            let next = next.and_then(|next| {
                if next.redirection.followed > task.redirects {
                    return Err(format!("redirects allows {}", task.redirects));
                }
                let added = added_at(&next)?;
                Ok((next, added))
            });
            let (next, added) = match next {
                Ok(next) => next,
                Err(why) => {
                    response.redirection.refused = Some(why);
                    return Ok(response);
                }
            };
            hop = next;
            let has_acted = hop.redirection.has_acted;
            let answer = match self.guard.check_literal(&hop.url) {
                Ok(()) => {
                    *pooled = self.client_for(task, &hop.url)?;
                    self.exchange(pooled, task, hop.clone(), added, body, reading).await
                }
                Err(forbidden) => Err(Failure::ForbiddenTarget(forbidden.to_string())),
            };
            response = answer.map_err(|failure| match failure {
                // Not the target's fault, nor that of the one that redirected.
                Failure::ForbiddenTarget(_) | Failure::ResponseTooLarge(_) | Failure::MemorySpent => failure,
                failure => Failure::Redirected { failure: Box::new(failure), has_acted },
            })?;
        }
        Ok(response)
    }

    /// Makes one request, and reads its response. Not asynchronous, so that the future does not hold what the request was made of.
    fn exchange<'a>(
        &'a self,
        pooled: &'a PooledClient,
        task: &'a Task,
        hop: Hop,
        added: HeaderMap,
        body: Option<&Vec<u8>>,
        AnswerReading { relay, memory }: &'a AnswerReading<'a>,
    ) -> impl Future<Output = AttemptResult> + Send {
        let redirection = hop.redirection.clone();
        let accepted = if relay.is_some() { decode::IDENTITY } else { decode::ACCEPTED };
        let request = request(pooled, hop, added, body, accepted);
        let sent = request.map(|request| pooled.client.execute(request));
        async move {
            let mut incoming = sent?.await.map_err(|error| Failure::from_reqwest(&error))?;
            if task.effect == Effect::Idempotent {
                self.pools.answered(pooled, incoming.version() == Version::HTTP_2);
            }
            if pooled.has_proxy() && incoming.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
                return Err(Failure::Connect(PROXY_LOGIN.to_owned()));
            }
            let (status, mut headers) = (incoming.status().as_u16(), std::mem::take(incoming.headers_mut()));
            // Counted while it arrives and after decompression: neither a wrong Content-Length nor a zip bomb fills the memory.
            let mut decoder = BodyDecoder::of(&mut headers, self.max_response_bytes);
            if let Some(relay) = relay.as_ref().filter(|relay| relay.accepts(status)) {
                Box::pin(pass_on(&mut incoming, &mut decoder, (status, &headers), (relay, memory))).await?;
            }
            let length = incoming.content_length();
            while let Some(chunk) = incoming.chunk().await.map_err(|error| Failure::from_reqwest(&error))? {
                take(&chunk, &mut decoder, memory, length).await?;
            }
            let body = decoder.finish()?;
            memory.set(body.capacity());
            Ok(Response { status, headers, body, redirection })
        }
    }
}

/// The request of a hop, with `added` headers, which replace its own.
fn request(
    pooled: &PooledClient,
    hop: Hop,
    added: HeaderMap,
    body: Option<&Vec<u8>>,
    accepted: &'static str,
) -> Result<reqwest::Request, Failure> {
    let Hop { method, url, headers, sends_body, .. } = hop;
    // The builder makes a header of the user and the password in a URL.
    let mut request = pooled.client.request(method, url).build().map_err(|error| Failure::from_reqwest(&error))?;
    if request.headers().is_empty() {
        *request.headers_mut() = headers;
    } else {
        request.headers_mut().extend(headers);
    }
    request.headers_mut().extend(added);
    if let Some(body) = body.filter(|_| sends_body) {
        *request.body_mut() = Some(body.clone().into());
    }
    request.headers_mut().entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static(accepted));
    Ok(request)
}

/// Decodes the next bytes of a body as soon as there is memory for them: for all of it at once if its length is known, so that those which
/// begin can end.
async fn take(
    chunk: &[u8],
    decoder: &mut BodyDecoder,
    memory: &HeldMemory,
    length: Option<u64>,
) -> Result<(), Failure> {
    match decoder.bytes_after(chunk.len()) {
        Some(bytes) => {
            memory.may_have(bytes).await?;
            if HeldMemory::counts(bytes) {
                decoder.expect(length);
            }
        }
        None => memory.may_have(usize::MAX).await?,
    }
    decoder.push(chunk)?;
    memory.set(decoder.capacity());
    Ok(())
}

/// Waits for an exchange. The time in which it waits for memory does not count. `None`: it took too long.
async fn in_time<T>(
    timeout: Duration,
    memory: &HeldMemory,
    mut exchange: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let started = Instant::now();
    let mut left = timeout;
    while !left.is_zero() {
        if let Ok(done) = tokio::time::timeout(left, exchange.as_mut()).await {
            return Some(done);
        }
        left = (timeout + memory.waited()).saturating_sub(started.elapsed());
    }
    None
}

/// Whether a connection ended before its answer did.
fn is_broken_off(failure: &Failure) -> bool {
    match failure {
        Failure::Redirected { failure, .. } => is_broken_off(failure),
        Failure::Reset | Failure::Closed | Failure::Truncated(_) | Failure::Other(_) => true,
        _ => false,
    }
}

/// Reads a body to its end, and passes on what is decoded of it.
async fn pass_on(
    incoming: &mut reqwest::Response,
    decoder: &mut BodyDecoder,
    head: (u16, &HeaderMap),
    (relay, memory): (&BodyRelay<'_>, &HeldMemory),
) -> Result<(), Failure> {
    let mut is_first = true;
    let mut arriving = relay.arriving_body();
    while let Some(chunk) = incoming.chunk().await.map_err(|error| Failure::from_reqwest(&error))? {
        take(&chunk, decoder, memory, None).await?;
        // What is on its way to the stream is there twice.
        memory.set(2 * decoder.capacity());
        let bytes = arriving.next(decoder.decoded(arriving.taken())?);
        if !bytes.is_empty() {
            relay.pass(is_first.then_some(head), &bytes).await;
            is_first = false;
        }
    }
    Ok(())
}
