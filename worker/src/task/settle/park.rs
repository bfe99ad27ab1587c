//! Tasks that wait for something other than a time: for the leader of their memo, for their upstream, or for a limit.

use std::time::Duration;

use redial_core::consumer::{ParkedTasks, TurnRequest, WaitList};
use redial_core::memo::{LeadDecision, MemoKey};
use redial_core::protocol::event::WaitCause;

use super::Settler;
use crate::breaker::client::upstream_of;
use crate::breaker::drain;
use crate::in_flight::calls::UpstreamCalls;
use crate::memo::{gate, leader, sharer};
use crate::queue::clock::millis;
use crate::queue::redis_retry::{NotStored, Resent, Stored};
use crate::task::events;
use crate::task::job::Job;
use crate::task::types::LimitWait;

/// How long a parked task keeps the memos that it leads: nobody knows how long it will wait.
const PARKED_LEAD: Duration = Duration::from_secs(24 * 3600);

/// What a task waits for in a wait list whose order is fair between keys, and in which order.
struct TurnWait {
    list: WaitList,
    cost: f64,
    fairness_key: String,
    position: Option<String>,
    dies_when_spent: bool,
}

impl Settler<'_> {
    /// Parks a task while another one makes the call. Then looks at the memo again, in case the other one has just ended.
    pub async fn park_behind_leader(&self, job: &Job, leads: &[MemoKey], key: &MemoKey) {
        let list = key.wait_list();
        if !self.park(job, leads, &list, self.worker.shared.config.lease).await {
            return;
        }
        events::waiting(self.worker, job, WaitCause::Answer, None, None);
        match gate::recheck(self.worker, job, key).await {
            Ok(LeadDecision::Follow) | Err(NotStored::Aborted) => {
                tracing::debug!(task = %job.id, queue = self.worker.name(), "waiting for the answer to another task's call");
            }
            // If the memo cannot be read, the task finds out for itself.
            Ok(_) | Err(NotStored::Refused(_)) => {
                let parked = ParkedTasks::new(self.worker.redis_queue().clone(), &list);
                sharer::unpark(self.worker, &parked, Some(&job.header.parked_token())).await;
            }
        }
    }

    /// Parks a task while its upstream is down, in a wait list that the fleet drains when it is up again.
    pub async fn park_until_up(&self, job: &Job, leads: &[MemoKey], wait: Duration) {
        let upstream = upstream_of(&job.task.url);
        // The breaker may have changed since it was asked, so the first look at a new list comes soon.
        let look_in = wait.clamp(drain::MIN_WAIT, drain::FIRST_LOOK);
        if self.park(job, leads, &WaitList::breaker(&upstream), look_in).await {
            events::waiting(self.worker, job, WaitCause::Upstream, Some(&upstream), None);
            let wait_ms = millis(wait);
            tracing::debug!(task = %job.id, queue = self.worker.name(), upstream, wait_ms, "waiting until the upstream is up");
        }
    }

    /// Parks a task in a wait list, where it uses no attempt. The caller must look after the list from then on, since what the task
    /// waits for may just have happened. `false`: this worker no longer has the task.
    async fn park(&self, job: &Job, leads: &[MemoKey], list: &WaitList, look_in: Duration) -> bool {
        self.keep_leads(job, leads).await;
        let header = job.header_at_rest(leads);
        let deadline = job.task.deadline(job.header.first_seen);
        let consumer = &self.worker.queue.consumer;
        let park = || consumer.park(&job.token, &header, list, look_in, deadline);
        match self.worker.queue.retry.retry_until_stored("park", park).await {
            Ok(Stored { value: true, .. } | Stored { resent: Resent::Yes, .. }) => {
                let until_deadline = deadline.map_or(look_in, |deadline| self.worker.queue.clock.until(deadline));
                self.worker.queue.checks.due_in(look_in.min(until_deadline));
                true
            }
            Ok(Stored { value: false, resent: Resent::No }) => {
                self.lease_lost(Some(&job.id));
                false
            }
            Err(why) => {
                self.give_up(&job.token, &why).await;
                false
            }
        }
    }

    /// Parks a task until fewer calls are in flight to its upstream, in a wait list that every worker drains as far as it has room.
    pub async fn park_while_busy(&self, job: &Job, leads: &[MemoKey], upstream: &UpstreamCalls) {
        let wait = TurnWait {
            list: WaitList::in_flight(upstream.name()),
            cost: 1.0,
            fairness_key: job.task.tenant.as_deref().unwrap_or(self.worker.name()).to_owned(),
            position: None,
            dies_when_spent: false,
        };
        if self.park_in_turn(job, leads, wait).await {
            events::waiting(self.worker, job, WaitCause::Upstream, Some(upstream.name()), None);
            tracing::debug!(task = %job.id, queue = self.worker.name(), upstream = upstream.name(), "waiting until fewer calls are in flight");
        }
    }

    /// Parks a task until it is its turn under a limit, in a wait list that the fleet drains.
    pub async fn park_for_limit(&self, job: &Job, leads: &[MemoKey], wait: LimitWait) {
        let LimitWait { limit, cost, fairness_key, position, dies_when_spent } = wait;
        let list = WaitList::limit(&limit);
        if self.park_in_turn(job, leads, TurnWait { list, cost, fairness_key, position, dies_when_spent }).await {
            events::waiting(self.worker, job, WaitCause::Limit, Some(&limit), None);
            tracing::debug!(task = %job.id, queue = self.worker.name(), limit, "waiting for its turn under a limit");
        }
    }

    /// Parks a task in a wait list whose order is fair between keys. `false`: this worker no longer has the task.
    async fn park_in_turn(&self, job: &Job, leads: &[MemoKey], wait: TurnWait) -> bool {
        self.keep_leads(job, leads).await;
        let TurnWait { list, cost, fairness_key, position, dies_when_spent } = wait;
        // At the earlier of the two it ends: see `expire.rs`.
        let deadlines = [job.task.deadline(job.header.first_seen), job.header.state.waits_until];
        let deadline = deadlines.into_iter().flatten().min();
        let request = TurnRequest {
            token: job.token.clone(),
            serial: job.header.serial.clone(),
            header: job.header_at_rest(leads).to_line(),
            deadline,
            cost,
            fairness_key,
            position,
            dies_when_spent,
        };
        let queue = &self.worker.queue;
        match queue.parking.park(list, request).await {
            Ok(true) => {
                if let Some(deadline) = deadline {
                    queue.checks.due_in(queue.clock.until(deadline));
                }
                true
            }
            Ok(false) => {
                self.lease_lost(Some(&job.id));
                false
            }
            Err(why) => {
                self.give_up(&job.token, &why).await;
                false
            }
        }
    }

    /// If a memo cannot be reached, the lead ends by itself.
    async fn keep_leads(&self, job: &Job, leads: &[MemoKey]) {
        for key in leads {
            let _led = leader::lead(self.worker, job, key, PARKED_LEAD).await;
        }
    }
}
