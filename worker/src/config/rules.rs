//! What the operator lets tasks do: which lists they may have replies sent to, which limits they may name, and whose queue is whose.

use anyhow::{Context as _, ensure};
use redial_core::protocol::task::{InvalidTask, tenant};
use redial_core::{QueueName, Task};
use serde::Deserialize;

use super::limit::LimitConfig;
use super::pattern::NamePattern;

/// A `[[tenant]]` block as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTenant {
    name: String,
    queues: Vec<NamePattern>,
}

/// A tenant with queues of its own.
#[derive(Debug, Clone)]
struct QueueOwner {
    tenant: String,
    queues: Vec<NamePattern>,
}

/// What the operator lets tasks do.
#[derive(Debug, Clone)]
pub struct TaskRules {
    reply_lists: Vec<NamePattern>,
    owners: Vec<QueueOwner>,
}

impl TaskRules {
    /// Checks the settings. `queues` are those that the worker serves.
    ///
    /// # Errors
    /// A tenant has a name that no task could have, has no queue, is defined twice, or shares a queue with another one.
    pub fn new<'a>(
        reply_lists: impl Iterator<Item = &'a str>,
        blocks: Vec<RawTenant>,
        queues: impl Iterator<Item = &'a QueueName>,
    ) -> anyhow::Result<Self> {
        let mut owners: Vec<QueueOwner> = Vec::new();
        for RawTenant { name, queues } in blocks {
            let tenant = tenant(name).map_err(anyhow::Error::msg).context("[[tenant]] name")?;
            ensure!(owners.iter().all(|other| other.tenant != tenant), "[[tenant]] {tenant:?} is defined twice");
            ensure!(!queues.is_empty(), "[[tenant]] {tenant:?} has no queues: name at least one");
            owners.push(QueueOwner { tenant, queues });
        }
        let rules = Self { reply_lists: reply_lists.map(NamePattern::new).collect(), owners };
        for queue in queues {
            let owners: Vec<&str> = rules.owners_of(queue).collect();
            ensure!(owners.len() <= 1, "the queue {queue} belongs to several tenants: {}", owners.join(", "));
        }
        Ok(rules)
    }

    /// Whether a task may have its reply sent to a list.
    pub fn allow_reply_to(&self, list: &str) -> bool {
        self.reply_lists.iter().any(|pattern| pattern.matches(list))
    }

    /// Checks a task of a queue. One that names no tenant belongs to the owner of its queue.
    ///
    /// # Errors
    /// The operator does not allow it.
    pub fn apply(&self, task: &mut Task, queue: &QueueName, limits: &LimitConfig) -> Result<(), InvalidTask> {
        if let Some(list) = task.reply_to.as_ref().filter(|list| !self.allow_reply_to(list)) {
            let allowed: Vec<String> = self.reply_lists.iter().map(ToString::to_string).collect();
            let allowed = if allowed.is_empty() { "no list".to_owned() } else { allowed.join(", ") };
            return Err(InvalidTask::ForbiddenReplyTo { list: list.clone(), allowed });
        }
        if let Some(limit) = task.limits.iter().find(|limit| limits.is_for_operators(&limit.name)) {
            return Err(InvalidTask::OperatorsLimit(limit.name.clone()));
        }
        if self.owners.is_empty() {
            return Ok(());
        }
        match (self.owners_of(queue).next(), &task.tenant) {
            (Some(owner), None) => task.tenant = Some(owner.to_owned()),
            (Some(owner), Some(tenant)) if owner != tenant => {
                return Err(InvalidTask::ForeignQueue { tenant: tenant.clone(), owner: owner.to_owned() });
            }
            (None, Some(tenant)) if self.owners.iter().any(|owner| owner.tenant == *tenant) => {
                return Err(InvalidTask::TenantElsewhere(tenant.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    fn owners_of(&self, queue: &QueueName) -> impl Iterator<Item = &str> {
        let owns = |owner: &&QueueOwner| owner.queues.iter().any(|pattern| pattern.matches(queue.as_str()));
        self.owners.iter().filter(owns).map(|owner| owner.tenant.as_str())
    }
}
