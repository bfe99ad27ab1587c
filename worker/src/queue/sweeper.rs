//! Takes over what others left: tasks of workers whose lease has ended, entries in this worker's name that it does not know,
//! undelivered replies, and checks that are due. Each is a part of its own beside the heartbeat, which tells it what there is
//! to do; one that Redis does not answer holds up no other. What fails is left for the next heartbeat.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::WorkerId;
use redial_core::consumer::{LeaseRenewal, MAX_BATCH, TakenBack};
use redial_core::protocol::id::Token;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::backlog;
use super::heartbeat::{HeartbeatNews, NewsReceiver};
use super::queue_worker::QueueWorker;
use super::vital;

/// How often the backlog is measured at most: it is read by programs that look every few seconds, and each worker of the fleet measures it.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);
/// How many replies are delivered at the same time: a list on a node that does not answer must not hold up the others.
const MAX_DELIVERIES: usize = 16;

/// Runs until the heartbeat has ended. The parts end when this does.
pub async fn run(worker: QueueWorker, news: NewsReceiver) {
    let mut parts = JoinSet::new();
    parts.spawn(vital::guard("reaper", reap_ended(worker.clone(), news.clone())));
    parts.spawn(vital::guard("reconciler", reconcile(worker.clone(), news.clone())));
    parts.spawn(vital::guard("replies", deliver_replies(worker.clone(), news.clone())));
    parts.spawn(vital::guard("checks", look_for_checks(worker.clone(), news.clone())));
    parts.spawn(vital::guard("backlog", measure_backlog(worker, news)));
    parts.join_all().await;
}

/// Waits for the next news; `None` when there will be none. What came while one was busy is skipped: the newest counts.
async fn next_news(news: &mut NewsReceiver) -> Option<Arc<HeartbeatNews>> {
    news.changed().await.ok()?;
    news.borrow_and_update().clone()
}

/// Takes back every task of workers whose lease has ended.
async fn reap_ended(worker: QueueWorker, mut news: NewsReceiver) {
    while let Some(news) = next_news(&mut news).await {
        for (ended, renewal) in &news.ended {
            reap(&worker, ended, renewal).await;
        }
    }
}

async fn reap(worker: &QueueWorker, ended: &WorkerId, renewal: &LeaseRenewal) {
    let mut tasks = 0;
    while let Ok(TakenBack { moved, remaining }) = worker.queue.consumer.reap(ended, renewal).await {
        tasks += moved;
        if moved > 0 {
            worker.queue.wakeups.wake();
        }
        if remaining == 0 || moved == 0 {
            break;
        }
    }
    if tasks > 0 {
        tracing::warn!(queue = worker.name(), ended = %ended, tasks, "the lease of a worker has ended: took back its tasks");
        worker.shared.metrics.reaped(worker.name(), tasks);
    }
}

/// Compares the tasks that Redis lists in this worker's name with those that it knows.
async fn reconcile(worker: QueueWorker, mut news: NewsReceiver) {
    // Strays at the last heartbeat. One that is there again is no coincidence.
    let mut suspected = HashSet::new();
    while let Some(news) = next_news(&mut news).await {
        suspected = release_strays(&worker, news.reply.held, suspected).await;
    }
}

async fn release_strays(worker: &QueueWorker, held: usize, suspected: HashSet<Token>) -> HashSet<Token> {
    let ours = &worker.queue.held;
    // Both are read before asking Redis, so that what is claimed from here on is not among them.
    let registered_claims = ours.registered_claims();
    let our_tokens = ours.tokens();
    if held == 0 && our_tokens.is_empty() {
        return HashSet::new();
    }
    let consumer = &worker.queue.consumer;
    let Ok(tokens) = consumer.held_tokens().await else {
        return suspected;
    };
    let tokens: HashSet<Token> = tokens.into_iter().collect();
    ours.mark_lost(our_tokens.into_iter().filter(|token| !tokens.contains(token)));
    let is_stray =
        |token: &Token| token.claim_number().is_none_or(|number| number < registered_claims) && !ours.contains(token);
    let suspects: HashSet<Token> = tokens.into_iter().filter(is_stray).collect();
    let strays: Vec<Token> = suspects.intersection(&suspected).take(MAX_BATCH).cloned().collect();
    if !strays.is_empty() && consumer.release_strays(&strays).await.is_ok() {
        let tasks = strays.len();
        tracing::warn!(queue = worker.name(), tasks, "Redis lost a write when it crashed: these tasks run again");
        worker.queue.wakeups.wake();
    }
    suspects
}

/// Delivers replies to lists in another Cluster slot if the worker that finished their tasks could not.
async fn deliver_replies(worker: QueueWorker, mut news: NewsReceiver) {
    // Undelivered replies at the last heartbeat: their worker has had the time.
    let mut suspected: HashSet<Token> = HashSet::new();
    while let Some(news) = next_news(&mut news).await {
        if news.reply.undelivered == 0 {
            suspected.clear();
            continue;
        }
        let Ok(tokens) = worker.queue.consumer.undelivered().await else { continue };
        let tokens: HashSet<Token> = tokens.into_iter().collect();
        deliver(&worker, tokens.intersection(&suspected).cloned()).await;
        suspected = tokens;
    }
}

async fn deliver(worker: &QueueWorker, tokens: impl Iterator<Item = Token>) {
    let limit = Arc::new(Semaphore::new(MAX_DELIVERIES));
    let mut deliveries = JoinSet::new();
    for token in tokens {
        let (worker, limit) = (worker.clone(), limit.clone());
        deliveries.spawn(async move {
            let _permit = limit.acquire().await;
            if let Err(error) = worker.redis_queue().deliver_reply(&token).await {
                tracing::warn!(queue = worker.name(), %error, "could not deliver a reply; the next heartbeat tries again");
            }
        });
    }
    deliveries.join_all().await;
}

/// Looks for checks that are due before the next heartbeat, of which this worker may not know yet.
async fn look_for_checks(worker: QueueWorker, mut news: NewsReceiver) {
    while let Some(news) = next_news(&mut news).await {
        if news.reply.watched > 0 {
            worker.queue.checks.due_in(Duration::ZERO);
        }
    }
}

/// Shows how many tasks the queue has.
async fn measure_backlog(worker: QueueWorker, mut news: NewsReceiver) {
    let mut measured_at: Option<Instant> = None;
    while let Some(news) = next_news(&mut news).await {
        if measured_at.is_none_or(|at| at.elapsed() >= MEASURE_INTERVAL) {
            measured_at = Some(Instant::now());
            backlog::measure(&worker, news.reply.held).await;
        }
    }
}
