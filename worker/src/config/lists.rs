//! Settings that are lists in one line.

use anyhow::{Context as _, bail, ensure};
use redial_core::QueueName;

/// The items of a list that is separated by commas.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The queues, each with its weight.
///
/// # Errors
/// One has an invalid name or weight, or is named twice, or there is none.
pub fn queues(text: &str) -> anyhow::Result<Vec<(QueueName, u32)>> {
    let mut queues: Vec<(QueueName, u32)> = Vec::new();
    for item in list(text) {
        let (name, weight) = item.split_once('=').unwrap_or((item, "1"));
        let name = QueueName::new(name.trim()).with_context(|| format!("queues holds {item:?}"))?;
        let weight = weight.trim().parse().ok().filter(|weight| (1..=1000).contains(weight));
        let weight =
            weight.with_context(|| format!("queues holds {item:?}: use name=weight with a weight from 1 to 1000"))?;
        if queues.iter().any(|(other, _)| *other == name) {
            bail!("queues names {name} twice");
        }
        queues.push((name, weight));
    }
    ensure!(!queues.is_empty(), "queues is empty: name at least one, such as default=1");
    Ok(queues)
}
