//! What can go wrong between here and Redis.

/// An error of this crate. A task's own failures are not among them: those are results.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis answered with an error, or did not answer.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// No connection could be made.
    #[error("no connection to Redis at {target}: {why}; REDIS_URL says where it is")]
    Unreachable {
        /// The address as configured, without its password.
        target: String,
        /// What the last try said.
        why: String,
    },
    /// The address of Redis can't be read.
    #[error(
        "REDIS_URL: {0}; use redis://host:6379, rediss:// for TLS, redis-cluster://host:6379,host:6379 or redis-sentinel://host:26379,host:26379/master-name"
    )]
    Url(String),
    /// A name that can't be used.
    #[error("{0}")]
    Name(String),
    /// Redis holds what this version did not write.
    #[error("unexpected data in Redis: {0}; was it written by another version or by hand?")]
    Data(String),
}

impl Error {
    /// Whether the connection should be thrown away: the next one may do better.
    ///
    /// A node that became a replica answers `READONLY`, and a blocked client of it `UNBLOCKED`; neither heals by itself.
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
            Self::Url(_) | Self::Name(_) | Self::Data(_) => false,
        }
    }
}
