//! What all requests share: the settings, the clients of the queues, and what is counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redial::Client;
use redial_core::QueueName;
use redial_core::queue::dead_groups::GroupCounts;
use redial_core::statistics::summary::StatisticsReaders;
use redial_traces::{InvalidCollector, Traces};
use tokio::sync::{Semaphore, watch};

use crate::config::{AccessRules, GatewayConfig};
use crate::letters::job::DeadLetterJobs;
use crate::metrics::GatewayMetrics;

/// How many queues have a client at a time. Each has a connection on which it waits.
const MAX_CLIENTS: usize = 64;
/// How many searches for a task run at a time: each reads many tasks.
const MAX_SEARCHES: usize = 4;

/// A gateway at work.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The settings as they were at the start; those of [`Gateway::access`] may have changed since.
    pub config: GatewayConfig,
    access: RwLock<Arc<AccessRules>>,
    /// The client of the default queue.
    client: Client,
    clients: Mutex<HashMap<QueueName, Client>>,
    /// One permit for each request that may wait for results.
    pub waiting: Arc<Semaphore>,
    /// One permit for each request that has no response yet. Over HTTP/2, a connection has many.
    pub requests: Semaphore,
    /// One permit for each search.
    pub searches: Semaphore,
    /// Whether the gateway is about to end.
    pub draining: watch::Receiver<bool>,
    pub metrics: Arc<GatewayMetrics>,
    pub traces: Traces,
    /// What workers counted.
    pub statistics: StatisticsReaders,
    pub dead_groups: GroupCounts,
    pub dead_jobs: DeadLetterJobs,
}

impl Gateway {
    /// # Errors
    /// The collector of traces is not named by an address.
    pub fn new(
        config: GatewayConfig,
        client: Client,
        draining: watch::Receiver<bool>,
    ) -> Result<Self, InvalidCollector> {
        let metrics = Arc::new(GatewayMetrics::default());
        let of_spans = metrics.clone();
        let traces = Traces::start(&config.traces, "redial-gateway", move |fate, spans| of_spans.spans(fate, spans))?;
        Ok(Self {
            waiting: Arc::new(Semaphore::new(config.max_waiting)),
            requests: Semaphore::new(config.max_connections()),
            searches: Semaphore::new(MAX_SEARCHES),
            clients: Mutex::default(),
            metrics,
            traces,
            statistics: StatisticsReaders::default(),
            dead_groups: GroupCounts::default(),
            dead_jobs: DeadLetterJobs::default(),
            client,
            access: RwLock::new(Arc::new(config.access.clone())),
            config,
            draining,
        })
    }

    /// Who may use it, and for which upstreams.
    pub fn access(&self) -> Arc<AccessRules> {
        // Nothing panics while it holds the lock.
        self.access.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over from these settings what can change while it runs. Returns the names of those that differ and cannot.
    pub fn reload(&self, config: GatewayConfig) -> Vec<&'static str> {
        let differences = config.differences(&self.config);
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config.access);
        differences
    }

    /// A client of the default queue.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The client of a queue. Requests for the same queue share it, and so wait on one connection.
    pub fn client_of(&self, queue: &QueueName) -> Client {
        // Nothing panics while it holds the lock.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(queue) {
            return client.clone();
        }
        if clients.len() >= MAX_CLIENTS
            && let Some(other) = clients.keys().next().cloned()
        {
            // Whoever waits with it keeps it.
            clients.remove(&other);
        }
        let client = self.client.of_queue(queue.clone());
        clients.entry(queue.clone()).or_insert(client).clone()
    }

    /// How many requests wait for results.
    pub fn waiting_now(&self) -> usize {
        self.config.max_waiting.saturating_sub(self.waiting.available_permits())
    }

    /// Waits until the gateway is about to end.
    pub async fn wait_for_drain(&self) {
        let mut draining = self.draining.clone();
        // It fails only if the server is gone.
        let _ = draining.wait_for(|is_draining| *is_draining).await;
    }

    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
