//! The `[[tenant]]` blocks: which queues belong to whom.

use anyhow::{Context as _, ensure};
use redial_core::protocol::task::{InvalidTask, tenant};
use redial_core::{QueueName, Task};
use serde::Deserialize;

use super::pattern::NamePattern;

/// A `[[tenant]]` block as written.
#[derive(Debug, Clone, Deserialize)]
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

/// The tenants with queues of their own.
#[derive(Debug)]
pub struct Tenants(Vec<QueueOwner>);

/// The label in metrics of tenants that have no block, and of tasks of no tenant.
const OTHER_TENANTS: &str = "(others)";
const NO_TENANT: &str = "(none)";

impl Tenants {
    /// Checks the blocks. `queues` are those that the worker serves.
    ///
    /// # Errors
    /// A tenant has a name that no task could have, has no queue, is defined twice, or shares a queue with another one.
    pub fn new<'a>(blocks: &[RawTenant], queues: impl Iterator<Item = &'a QueueName>) -> anyhow::Result<Self> {
        let mut owners: Vec<QueueOwner> = Vec::new();
        for RawTenant { name, queues } in blocks.iter().cloned() {
            let tenant = tenant(name).map_err(anyhow::Error::msg).context("[[tenant]] name")?;
            ensure!(owners.iter().all(|other| other.tenant != tenant), "[[tenant]] {tenant:?} is defined twice");
            ensure!(!queues.is_empty(), "[[tenant]] {tenant:?} has no queues: name at least one");
            owners.push(QueueOwner { tenant, queues });
        }
        let tenants = Self(owners);
        for queue in queues {
            let owners: Vec<&str> = tenants.owners_of(queue).collect();
            ensure!(owners.len() <= 1, "the queue {queue} belongs to several tenants: {}", owners.join(", "));
        }
        Ok(tenants)
    }

    /// Gives a task that names no tenant the owner of its queue.
    ///
    /// # Errors
    /// It names one that its queue does not belong to.
    pub fn assign(&self, task: &mut Task, queue: &QueueName) -> Result<(), InvalidTask> {
        if self.0.is_empty() {
            return Ok(());
        }
        match (self.owners_of(queue).next(), &task.tenant) {
            (Some(owner), None) => task.tenant = Some(owner.to_owned()),
            (Some(owner), Some(tenant)) if owner != tenant => {
                return Err(InvalidTask::ForeignQueue { tenant: tenant.clone(), owner: owner.to_owned() });
            }
            (None, Some(tenant)) if self.has(tenant) => {
                return Err(InvalidTask::TenantElsewhere(tenant.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    /// What metrics call the tenant of a task: its name if it has a block, since tasks choose the others. `None`: no tenant has one.
    pub fn label(&self, task: &Task) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let label = match &task.tenant {
            Some(tenant) if self.has(tenant) => tenant,
            Some(_) => OTHER_TENANTS,
            None => NO_TENANT,
        };
        Some(label.to_owned())
    }

    fn owners_of(&self, queue: &QueueName) -> impl Iterator<Item = &str> {
        let owns = |owner: &&QueueOwner| owner.queues.iter().any(|pattern| pattern.matches(queue.as_str()));
        self.0.iter().filter(owns).map(|owner| owner.tenant.as_str())
    }

    fn has(&self, tenant: &str) -> bool {
        self.0.iter().any(|owner| owner.tenant == tenant)
    }
}
