//! What the operator lets tasks do: which lists they may have replies sent to, which limits they may name, and whose queue is whose.

use std::time::Duration;

use anyhow::ensure;
use redial_core::protocol::task::{CONNECT_TIMEOUT, InvalidTask, RESULT_TTL, TaskDefaults};
use redial_core::{QueueName, Task, UnixMs};

use super::limit::LimitConfig;
use super::pattern::NamePattern;
use super::reload::Reloadable;
use super::tenant::Tenants;
use crate::queue::clock::millis;

/// The most that a task may ask for.
#[derive(Debug, Clone, Copy)]
pub struct TaskMaxima {
    pub timeout_ms: u64,
    pub attempts: u32,
    pub delay_ms: u64,
    pub result_ttl_ms: u64,
}

/// What the operator lets tasks do.
#[derive(Debug, Clone)]
pub struct TaskRules {
    maxima: TaskMaxima,
    reply_lists: Vec<NamePattern>,
    tenants: Reloadable<Tenants>,
}

impl TaskRules {
    /// Checks the settings.
    ///
    /// # Errors
    /// A maximum lets no task be valid.
    pub fn new<'a>(
        reply_lists: impl Iterator<Item = &'a str>,
        tenants: Reloadable<Tenants>,
        maxima: TaskMaxima,
    ) -> anyhow::Result<Self> {
        for (name, value) in [
            ("max_timeout_ms", maxima.timeout_ms),
            ("max_attempts", maxima.attempts.into()),
            ("max_result_ttl_ms", maxima.result_ttl_ms),
        ] {
            ensure!(value >= 1, "{name} is 0, so no task could be valid: use at least 1");
        }
        Ok(Self { maxima, reply_lists: reply_lists.map(NamePattern::new).collect(), tenants })
    }

    /// Whether a task may have its reply sent to a list.
    pub fn allow_reply_to(&self, list: &str) -> bool {
        self.reply_lists.iter().any(|pattern| pattern.matches(list))
    }

    /// Checks a task of a queue that was first seen then. One that names no tenant belongs to the owner of its queue. `defaults` are the
    /// operator's own, to which the maxima do not apply.
    ///
    /// # Errors
    /// The operator does not allow it.
    pub fn apply(
        &self,
        task: &mut Task,
        (queue, first_seen): (&QueueName, UnixMs),
        limits: &LimitConfig,
        defaults: &TaskDefaults,
    ) -> Result<(), InvalidTask> {
        // A delivery is Redial's own.
        if task.callback_of.is_none() {
            self.check_maxima(task, first_seen, defaults)?;
        }
        if let Some(list) = task.reply_to.as_ref().filter(|list| !self.allow_reply_to(list)) {
            let allowed: Vec<String> = self.reply_lists.iter().map(ToString::to_string).collect();
            let allowed = if allowed.is_empty() { "no list".to_owned() } else { allowed.join(", ") };
            return Err(InvalidTask::ForbiddenReplyTo { list: list.clone(), allowed });
        }
        if let Some(limit) = task.limits.iter().find(|limit| limits.is_for_operators(&limit.name)) {
            return Err(InvalidTask::OperatorsLimit(limit.name.clone()));
        }
        self.assign_tenant(task, queue)
    }

    /// Gives a task that names no tenant the owner of its queue.
    ///
    /// # Errors
    /// It names one that its queue does not belong to.
    pub fn assign_tenant(&self, task: &mut Task, queue: &QueueName) -> Result<(), InvalidTask> {
        self.tenants.current().assign(task, queue)
    }

    /// What metrics call the tenant of a task. `None`: no tenant has a block.
    pub fn tenant_label(&self, task: &Task) -> Option<String> {
        self.tenants.current().label(task)
    }

    fn check_maxima(&self, task: &Task, first_seen: UnixMs, defaults: &TaskDefaults) -> Result<(), InvalidTask> {
        let TaskMaxima { timeout_ms, attempts, delay_ms, result_ttl_ms } = self.maxima;
        // What a task does not ask for is the default, whatever the maximum.
        let asked = |value: Duration, default: Duration| if value == default { 0 } else { millis(value) };
        let attempts_asked = Some(task.retry.max_attempts).filter(|asked| *asked != defaults.retry.max_attempts);
        let delay = task.not_before(first_seen).map_or(0, |at| at.since(first_seen));
        for (field, value, max, setting) in [
            ("timeout_ms", asked(task.timeout, defaults.timeout), timeout_ms, "max_timeout_ms"),
            ("connect_timeout_ms", asked(task.connect_timeout, CONNECT_TIMEOUT), timeout_ms, "max_timeout_ms"),
            ("retry.max_attempts", attempts_asked.unwrap_or_default().into(), attempts.into(), "max_attempts"),
            ("retry.base_ms", asked(task.retry.base, defaults.retry.base), delay_ms, "max_delay_ms"),
            ("retry.cap_ms", asked(task.retry.cap, defaults.retry.cap), delay_ms, "max_delay_ms"),
            ("delay_ms` or `run_at_ms", delay, delay_ms, "max_delay_ms"),
            ("result_ttl_ms", asked(task.result_ttl, RESULT_TTL), result_ttl_ms, "max_result_ttl_ms"),
        ] {
            if value > max {
                return Err(InvalidTask::AboveMaximum { field, value, max, setting });
            }
        }
        Ok(())
    }
}
