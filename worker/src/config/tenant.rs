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

    /// The owners of a queue. What may be a partition by its name, and is not named itself, belongs to the owner of the whole queue: a task
    /// gets there by its id, or because somebody pushed it there.
    fn owners_of(&self, queue: &QueueName) -> impl Iterator<Item = &str> {
        let owns =
            |owner: &QueueOwner, queue: &QueueName| owner.queues.iter().any(|pattern| pattern.matches(queue.as_str()));
        let is_named = self.0.iter().any(|owner| owns(owner, queue));
        let owned = match queue.as_partition() {
            Some((whole, _)) if !is_named => whole,
            _ => queue.clone(),
        };
        self.0.iter().filter(move |owner| owns(owner, &owned)).map(|owner| owner.tenant.as_str())
    }

    fn has(&self, tenant: &str) -> bool {
        self.0.iter().any(|owner| owner.tenant == tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_belong_to_the_owner_of_their_queue() -> anyhow::Result<()> {
        let block = |name: &str, queue: &str| {
            serde_json::from_value::<RawTenant>(serde_json::json!({"name": name, "queues": [queue]}))
        };
        let tenants = Tenants::new(&[block("acme", "orders")?, block("other", "orders/7")?], std::iter::empty())?;
        for (queue, owner) in
            [("orders", Some("acme")), ("orders/0", Some("acme")), ("orders/7", Some("other")), ("orders/x", None)]
        {
            assert_eq!(tenants.owners_of(&QueueName::new(queue)?).next(), owner, "{queue}");
        }
        Ok(())
    }
}
