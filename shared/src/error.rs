//! What can go wrong between this crate and Redis.

use crate::TaskId;
use crate::protocol::id::{InvalidId, InvalidQueueName};
use crate::schedule::ScheduleError;

/// An error of this crate. A failed task is not an error here: its failure is its result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis answered with an error, or did not answer in time.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// No connection could be made.
    #[error("no connection to Redis at {target}: {why}; check REDIS_URL")]
    Unreachable {
        /// The address as configured, without its password.
        target: String,
        /// Why the last attempt failed.
        why: String,
    },
    /// The address of Redis cannot be parsed.
    #[error(
        "invalid Redis URL: {0}; use redis://host:6379, rediss:// for TLS, redis-cluster://host:6379,host:6379 or redis-sentinel://host:26379,host:26379/master-name"
    )]
    Url(String),
    /// A task id that does not conform to the protocol.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A queue name that does not conform to the protocol.
    #[error(transparent)]
    QueueName(#[from] InvalidQueueName),
    /// A schedule that can never work.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A task changed places every time it was found, so that it could not be cancelled.
    #[error("task {0} changed places while it was being cancelled: try again")]
    TaskMoving(TaskId),
    /// Redis holds data that this version did not write.
    #[error("unexpected data in Redis: {0}; was it written by another version or by hand?")]
    Data(String),
}

impl Error {
    /// Whether Redis may work again later: a retry makes sense.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Redis(_) | Self::Unreachable { .. })
    }

    /// Whether the connection has to be thrown away because a new one may do better.
    ///
    /// A node that became a replica answers `READONLY`, and unblocks its clients with `UNBLOCKED`; neither heals by itself.
    pub fn spoils_connection(&self) -> bool {
        match self {
            Self::Redis(error) => {
                use redis::ServerErrorKind as Kind;
                match error.kind() {
                    redis::ErrorKind::Server(kind) => {
                        matches!(kind, Kind::ReadOnly | Kind::BusyLoading | Kind::MasterDown | Kind::ClusterDown)
                    }
                    _ => error.code() == Some("UNBLOCKED") || error.code().is_none(),
                }
            }
            Self::Unreachable { .. } => true,
            Self::Url(_)
            | Self::Id(_)
            | Self::QueueName(_)
            | Self::Schedule(_)
            | Self::TaskMoving(_)
            | Self::Data(_) => false,
        }
    }
}
