//! The way to the collector: where it is, and the HTTP client that spans are sent with.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use tokio::runtime::Handle;

/// How long a request to the collector takes at most, unless the environment says otherwise.
const DEFAULT_TIMEOUT_MS: u64 = 10_000;
/// The most bytes of its response that are read.
const MAX_RESPONSE: usize = 64 << 10;
/// The variables that name the collector.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// The variables that say how long a request may take, in milliseconds.
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];

/// What the settings say about traces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceSettings {
    /// The collector, without the path `/v1/traces`; `None` leaves it to the environment.
    pub endpoint: Option<String>,
}

/// The collector cannot be used as it is named.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCollector {
    /// Its address is not one.
    #[error(
        "the collector of traces: {0}; use an address such as http://127.0.0.1:4318 for OTEL_EXPORTER_OTLP_ENDPOINT or [traces] endpoint"
    )]
    Address(String),
    /// There is no client for it.
    #[error("the collector of traces cannot be called: {0}")]
    Client(#[from] reqwest::Error),
}

/// What sends spans, if a collector is named and the environment does not turn traces off.
pub(crate) fn exporter(settings: &TraceSettings) -> Result<Option<SpanExporter>, InvalidCollector> {
    let is_off = is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none");
    if is_off || (settings.endpoint.is_none() && ENDPOINTS.iter().all(|name| variable(name).is_none())) {
        return Ok(None);
    }
    let mut builder = SpanExporter::builder().with_http().with_http_client(CollectorClient::new()?);
    if let Some(endpoint) = &settings.endpoint {
        let has_scheme = ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
        if !has_scheme {
            return Err(InvalidCollector::Address(format!("{endpoint:?} does not begin with http:// or https://")));
        }
        builder = builder.with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')));
    }
    builder.build().map(Some).map_err(|error| InvalidCollector::Address(error.to_string()))
}

/// What all spans of this process have in common. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go before what is said here.
pub(crate) fn resource(service: &'static str) -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let given = Resource::builder().build();
    let own = Resource::builder_empty().with_service_name(service).with_attribute(version).build();
    let is_named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
    let pairs = |resource: &Resource| -> Vec<KeyValue> {
        resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect()
    };
    let (first, last) = if is_named { (own, given) } else { (given, own) };
    Resource::builder_empty().with_attributes(pairs(&first)).with_attributes(pairs(&last)).build()
}

/// Whether the environment says which traces are recorded.
pub(crate) fn names_a_sampler() -> bool {
    variable("OTEL_TRACES_SAMPLER").is_some()
}

/// The variable, unless it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is(name: &str, value: &str) -> bool {
    variable(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
}

/// Calls the collector from whichever thread asks, on the threads of the runtime.
#[derive(Debug)]
struct CollectorClient {
    client: reqwest::Client,
    runtime: Handle,
}

impl CollectorClient {
    fn new() -> Result<Self, reqwest::Error> {
        let timeout = TIMEOUTS.iter().find_map(|name| variable(name)?.parse().ok()).unwrap_or(DEFAULT_TIMEOUT_MS);
        let client = reqwest::Client::builder()
            .timeout(Duration::from_millis(timeout))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()?;
        Ok(Self { client, runtime: Handle::current() })
    }
}

#[async_trait::async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { exchange(&client, request).await });
        sent.await?
    }
}

async fn exchange(client: &reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut response = client.execute(request.try_into()?).await?;
    let mut answer = Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        headers.clone_from(response.headers());
    }
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > MAX_RESPONSE {
            return Err(format!("the collector's response has more than {MAX_RESPONSE} bytes").into());
        }
        body.extend_from_slice(&piece);
    }
    Ok(answer.body(body.freeze())?)
}
