//! Start markers: those of tasks that are about to start at the same time go as one command.

use std::sync::Arc;

use redial_core::consumer::StartedTask;
use redial_core::{Consumer, Error};

use super::joined_requests::JoinedRequest;

/// A task whose start is to be recorded, and how large its entry is, which the script reads and writes.
#[derive(Debug, Clone)]
pub struct StartRequest {
    pub task: StartedTask,
    pub entry_bytes: usize,
}

impl JoinedRequest for StartRequest {
    type Target = Arc<Consumer>;
    type Reply = bool;
    /// As much as holds Redis up for less than a millisecond.
    const MAX_BYTES: usize = 256 << 10;

    fn bytes(&self) -> usize {
        self.entry_bytes
    }

    /// The tasks of a queue are in one hash slot.
    fn go_alone(_consumer: &Arc<Consumer>) -> bool {
        false
    }

    async fn send(consumer: &Arc<Consumer>, requests: &[Self]) -> Result<Vec<Result<bool, Error>>, Error> {
        let tasks: Vec<StartedTask> = requests.iter().map(|request| request.task.clone()).collect();
        let may_be_sent = consumer.mark_all_started(&tasks).await?;
        if may_be_sent.len() != tasks.len() {
            return Err(Error::Data(format!("{} replies to {} start markers", may_be_sent.len(), tasks.len())));
        }
        Ok(may_be_sent.into_iter().map(Ok).collect())
    }
}
