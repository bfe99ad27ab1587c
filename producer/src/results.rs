//! Waiting for results: one blocking connection serves everyone in the process who waits on a queue, or on one of its partitions.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use redial_core::{Queue, QueueName, TaskId, TaskResult, Waiter};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::Error;

/// A task that has finished, successfully or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The task's id.
    pub id: TaskId,
    /// The result as it is stored in Redis: JSON on one line.
    pub json: String,
}

impl Completed {
    /// The parsed result.
    ///
    /// # Errors
    /// Redial did not write the result ([`Error::UnexpectedData`]).
    pub fn result(&self) -> Result<TaskResult, Error> {
        serde_json::from_str(&self.json)
            .map_err(|error| Error::UnexpectedData(format!("the result of {}: {error}", self.id)))
    }
}

/// The results of tasks, in the order in which they arrive. The stream ends when all have arrived; while Redis is away, it waits.
#[derive(Debug)]
#[must_use = "results are only received while the stream is polled"]
pub struct Results {
    hubs: Vec<Arc<Hub>>,
    sender: UnboundedSender<Completed>,
    arriving: UnboundedReceiver<Completed>,
    outstanding: HashSet<TaskId>,
}

impl Results {
    /// The next result; `None` when all have arrived. It is safe to drop the future, for example after a timeout: no result is lost.
    pub async fn next(&mut self) -> Option<Completed> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The tasks whose results have not arrived yet.
    pub fn outstanding(&self) -> &HashSet<TaskId> {
        &self.outstanding
    }
}

impl Stream for Results {
    type Item = Completed;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Completed>> {
        while !self.outstanding.is_empty() {
            let Some(completed) = ready!(self.arriving.poll_recv(context)) else { break };
            // An older task of the same name may have a result in another partition.
            if self.outstanding.remove(&completed.id) {
                if self.hubs.len() > 1 {
                    self.hubs.iter().for_each(|hub| hub.abandon(&completed.id, &self.sender));
                }
                return Poll::Ready(Some(completed));
            }
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.outstanding.len()))
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        for hub in &self.hubs {
            self.outstanding.iter().for_each(|id| hub.abandon(id, &self.sender));
        }
    }
}

/// Where results of a client arrive: the hubs of its queue and of its partitions, each made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Hubs(Mutex<HashMap<QueueName, Arc<Hub>>>);

impl Hubs {
    /// Waits for results, each in the parts of the queue where it may be.
    pub(crate) async fn wait(&self, places: impl IntoIterator<Item = (Queue, Vec<TaskId>)>) -> Result<Results, Error> {
        let places: Vec<(Arc<Hub>, Vec<TaskId>)> = places.into_iter().map(|(part, ids)| (self.of(part), ids)).collect();
        let (sender, arriving) = unbounded_channel();
        let outstanding: HashSet<TaskId> = places.iter().flat_map(|(_, ids)| ids.iter().cloned()).collect();
        let hubs = places.iter().map(|(hub, _)| hub.clone()).collect();
        let results = Results { hubs, sender: sender.clone(), arriving, outstanding };
        for (hub, ids) in places {
            Hub::subscribe(&hub, &ids, &sender).await?;
        }
        Ok(results)
    }

    fn of(&self, part: Queue) -> Arc<Hub> {
        // A panic in another thread leaves the map intact.
        let mut hubs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hubs.entry(part.name().clone()).or_insert_with(|| Arc::new(Hub::new(Waiter::new(part)))).clone()
    }
}

/// Everyone in this process who waits for results of one part of a queue.
#[derive(Debug)]
struct Hub {
    waiter: Waiter,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_id: HashMap<TaskId, Vec<UnboundedSender<Completed>>>,
    /// Subscribed to in Redis, but nobody waits for them any more.
    abandoned: Vec<TaskId>,
    /// Runs while anyone waits.
    listener: Option<JoinHandle<()>>,
}

impl Hub {
    fn new(waiter: Waiter) -> Self {
        Self { waiter, waiting: Mutex::default() }
    }

    async fn subscribe(this: &Arc<Self>, ids: &[TaskId], sender: &UnboundedSender<Completed>) -> Result<(), Error> {
        {
            let mut waiting = this.waiting();
            for id in ids {
                waiting.by_id.entry(id.clone()).or_default().push(sender.clone());
            }
            let is_listening = waiting.listener.as_ref().is_some_and(|listener| !listener.is_finished());
            if !is_listening && !ids.is_empty() {
                waiting.listener = Some(tokio::spawn(this.clone().listen()));
            }
        }
        let existing = this.waiter.subscribe(ids).await?;
        this.deliver(existing);
        Ok(())
    }

    /// Someone does not wait for this result any more.
    fn abandon(&self, id: &TaskId, by: &UnboundedSender<Completed>) {
        let mut waiting = self.waiting();
        if let Some(senders) = waiting.by_id.get_mut(id) {
            senders.retain(|sender| !sender.same_channel(by));
            if senders.is_empty() {
                waiting.by_id.remove(id);
                waiting.abandoned.push(id.clone());
            }
        }
    }

    /// Receives results until nobody waits any more.
    async fn listen(self: Arc<Self>) {
        let mut subscribed_at = Instant::now();
        let mut must_renew = false;
        loop {
            let abandoned = {
                let mut waiting = self.waiting();
                let abandoned = std::mem::take(&mut waiting.abandoned);
                if waiting.by_id.is_empty() && abandoned.is_empty() {
                    waiting.listener = None;
                    return;
                }
                abandoned
            };
            // Subscriptions that this fails to remove expire. If someone has begun to wait for the same task meanwhile, it has removed
            // theirs as well: renew them below.
            let _ = self.waiter.unsubscribe(&abandoned).await;
            must_renew |= abandoned.iter().any(|id| self.waiting().by_id.contains_key(id));
            if must_renew || subscribed_at.elapsed() >= Waiter::RENEW_AFTER {
                let ids: Vec<TaskId> = self.waiting().by_id.keys().cloned().collect();
                let Ok(existing) = self.waiter.subscribe(&ids).await else {
                    pause().await;
                    continue;
                };
                self.deliver(existing);
                (subscribed_at, must_renew) = (Instant::now(), false);
            }
            if let Ok(arrived) = self.waiter.next().await {
                self.deliver(arrived);
            } else {
                must_renew = true;
                pause().await;
            }
        }
    }

    fn deliver(&self, results: Vec<(TaskId, String)>) {
        let mut waiting = self.waiting();
        for (id, json) in results {
            for sender in waiting.by_id.remove(&id).unwrap_or_default() {
                // It fails only if the receiver has given up.
                let _ = sender.send(Completed { id: id.clone(), json: json.clone() });
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic in another thread leaves the maps intact: no operation on them panics halfway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause between attempts while Redis is away. It is random, so that processes that lost Redis together do not all come back at
/// the same instant.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(300..=900))).await;
}
