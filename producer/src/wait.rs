//! Waiting: one blocking connection of the process serves all who wait at a queue.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redial_core::{TaskId, TaskResult, Waiter};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::{Error, Producer};

/// The answer to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The task's id.
    pub id: TaskId,
    /// The result as it stands in Redis: JSON, one line.
    pub json: String,
}

impl Answered {
    /// The result, read.
    ///
    /// # Errors
    /// Something other than Redial wrote it.
    pub fn result(&self) -> Result<TaskResult, Error> {
        serde_json::from_str(&self.json)
            .map_err(|error| redial_core::Error::Data(format!("the result of {}: {error}", self.id)).into())
    }
}

/// Answers, in the order in which they come.
#[derive(Debug)]
pub struct Answers {
    hub: Arc<Hub>,
    coming: UnboundedReceiver<Answered>,
    left: HashSet<TaskId>,
}

impl Answers {
    /// The next one; `None` when all have come. While Redis is away it waits on. It may be dropped half-way, as by a timeout:
    /// no answer is lost.
    pub async fn next(&mut self) -> Option<Answered> {
        if self.left.is_empty() {
            return None;
        }
        let answered = self.coming.recv().await?;
        self.left.remove(&answered.id);
        Some(answered)
    }

    /// The tasks whose answers have not come yet.
    pub fn left(&self) -> &HashSet<TaskId> {
        &self.left
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.coming.close();
        let mut waiting = self.hub.waiting();
        for id in &self.left {
            if let Some(senders) = waiting.by_id.get_mut(id) {
                senders.retain(|sender| !sender.is_closed());
                if senders.is_empty() {
                    waiting.by_id.remove(id);
                    waiting.given_up.push(id.clone());
                }
            }
        }
    }
}

/// Waits for one answer. At the end of its time it looks once more, so that an error of Redis is not taken for silence.
pub(crate) async fn one(
    producer: &Producer,
    answers: &mut Answers,
    timeout: Duration,
) -> Result<Option<Answered>, Error> {
    if let Ok(answered) = tokio::time::timeout(timeout, answers.next()).await {
        return Ok(answered);
    }
    let Some(id) = answers.left.iter().next() else { return Ok(None) };
    Ok(producer.result(id).await?.map(|json| Answered { id: id.clone(), json }))
}

/// All who wait at one queue in this process.
#[derive(Debug)]
pub(crate) struct Hub {
    waiter: Waiter,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_id: HashMap<TaskId, Vec<UnboundedSender<Answered>>>,
    /// Asked for in Redis, and no one waits any more.
    given_up: Vec<TaskId>,
    /// Runs while anyone waits.
    listener: Option<JoinHandle<()>>,
}

impl Hub {
    pub(crate) fn new(waiter: Waiter) -> Self {
        Self { waiter, waiting: Mutex::default() }
    }

    pub(crate) async fn wait(this: &Arc<Self>, ids: impl IntoIterator<Item = TaskId>) -> Result<Answers, Error> {
        let (sender, coming) = unbounded_channel();
        let left: HashSet<TaskId> = ids.into_iter().collect();
        let ids: Vec<TaskId> = left.iter().cloned().collect();
        let answers = Answers { hub: this.clone(), coming, left };
        {
            let mut waiting = this.waiting();
            for id in &ids {
                waiting.by_id.entry(id.clone()).or_default().push(sender.clone());
            }
            let listens = waiting.listener.as_ref().is_some_and(|listener| !listener.is_finished());
            if !listens && !ids.is_empty() {
                waiting.listener = Some(tokio::spawn(this.clone().listen()));
            }
        }
        let there = this.waiter.subscribe(&ids).await?;
        this.tell(there);
        Ok(answers)
    }

    /// Receives answers until no one waits any more.
    async fn listen(self: Arc<Self>) {
        let mut asked = Instant::now();
        let mut failing = false;
        loop {
            let given_up = {
                let mut waiting = self.waiting();
                let given_up = std::mem::take(&mut waiting.given_up);
                if waiting.by_id.is_empty() && given_up.is_empty() {
                    waiting.listener = None;
                    return;
                }
                given_up
            };
            // What this fails to take back ends by itself. Someone may have asked for the same meanwhile: asked again below.
            let _ = self.waiter.unsubscribe(&given_up).await;
            failing |= given_up.iter().any(|id| self.waiting().by_id.contains_key(id));
            if failing || asked.elapsed() >= Waiter::RENEW_AFTER {
                let ids: Vec<TaskId> = self.waiting().by_id.keys().cloned().collect();
                let Ok(there) = self.waiter.subscribe(&ids).await else {
                    pause().await;
                    continue;
                };
                self.tell(there);
                (asked, failing) = (Instant::now(), false);
            }
            if let Ok(told) = self.waiter.next().await {
                self.tell(told);
            } else {
                failing = true;
                pause().await;
            }
        }
    }

    fn tell(&self, told: Vec<(TaskId, String)>) {
        let mut waiting = self.waiting();
        for (id, json) in told {
            for sender in waiting.by_id.remove(&id).unwrap_or_default() {
                // Whoever does not listen any more has given up.
                let _ = sender.send(Answered { id: id.clone(), json: json.clone() });
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic of another thread leaves maps that are whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between tries while Redis does not answer: spread, so that all who wait do not come back at one instant.
async fn pause() {
    let jitter = TaskId::random().as_str().bytes().last().unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(300 + u64::from(jitter) * 5)).await;
}
