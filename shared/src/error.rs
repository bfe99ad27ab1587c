//! What can go wrong between this crate and Redis.

use crate::TaskId;
use crate::container;
use crate::protocol::id::{InvalidId, InvalidQueueName};
use crate::schedule::ScheduleError;

/// An error of this crate. A failed task is not an error here: its failure is its result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Redis answered with an error, or did not answer in time.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// No connection could be made.
    #[error("no connection to Redis at {target}: {why}; {}", advice_about(target))]
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

/// What to do if Redis cannot be reached there.
fn advice_about(target: &str) -> &'static str {
    let is_loopback = ["127.", "localhost", "[::1]"].iter().any(|host| target.contains(host));
    if container::is_inside() && is_loopback {
        "in a container, that is the container itself: set REDIS_URL in its environment to the name by which it reaches Redis, \
         such as redis://redis:6379 (the service of docker-compose.yml) or the Service of Kubernetes"
    } else {
        "check REDIS_URL"
    }
}

/// Whether it helps to send a command again that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorRecovery {
    /// A transient error: Redis is away, starting, full, or passing its work to another node. The same command works once it is back.
    Expected,
    /// The connection was closed, or Redis said something that this version does not know. Redis may be going away; or this command is
    /// what it closes the connection for, as when a value is larger than it accepts.
    Unclear,
    /// A permanent error: Redis has looked at this command and refuses it, and will do so again.
    Never,
}

impl Error {
    /// Whether Redis may work again later: a retry makes sense.
    pub fn is_temporary(&self) -> bool {
        self.recovery() != ErrorRecovery::Never
    }

    /// Whether it helps to send the command again.
    pub fn recovery(&self) -> ErrorRecovery {
        match self {
            Self::Redis(error) => recovery(error),
            Self::Unreachable { .. } | Self::TaskMoving(_) => ErrorRecovery::Expected,
            Self::Url(_) | Self::Id(_) | Self::QueueName(_) | Self::Schedule(_) | Self::Data(_) => ErrorRecovery::Never,
        }
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

/// Errors of a server that pass, by their code.
const TRANSIENT_CODES: [&str; 12] = [
    "BUSY",
    "INPROG",
    "MISCONF",
    "NOAUTH",
    "NOGOODSLAVE",
    "NOREPLICAS",
    "OOM",
    "UNBLOCKED",
    "UNKILLABLE",
    "WRONGPASS",
    // Also among those that the client library knows, unless a script raised them.
    "LOADING",
    "READONLY",
];

fn recovery(error: &redis::RedisError) -> ErrorRecovery {
    use redis::{ErrorKind, ServerErrorKind as Kind};
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        // Nothing listens any more, which is not this command's doing. A timeout is neither.
        ErrorKind::Io if error.is_connection_dropped() && !error.is_connection_refusal() => ErrorRecovery::Unclear,
        ErrorKind::Parse | ErrorKind::Client => ErrorRecovery::Unclear,
        ErrorKind::UnexpectedReturnType => ErrorRecovery::Never,
        ErrorKind::Server(kind) => match kind {
            Kind::ResponseError => generic(detail),
            Kind::NoPerm if concerns_every_script(detail) => ErrorRecovery::Expected,
            Kind::ExecAbort | Kind::CrossSlot | Kind::NoSub | Kind::NoPerm => ErrorRecovery::Never,
            _ => ErrorRecovery::Expected,
        },
        ErrorKind::Extension => match error.code().unwrap_or_default() {
            "WRONGTYPE" => ErrorRecovery::Never,
            code if TRANSIENT_CODES.contains(&code) => ErrorRecovery::Expected,
            _ => ErrorRecovery::Unclear,
        },
        _ => ErrorRecovery::Expected,
    }
}

/// An error whose code is `ERR`. Redis before 7 gives this code to every error of a script, with the original one in its text.
fn generic(detail: &str) -> ErrorRecovery {
    let quotes = |code: &&str| detail.contains(&format!("-{code} ")) || detail.contains(&format!(": {code} "));
    if TRANSIENT_CODES.iter().any(quotes) || detail.starts_with("max number of clients") {
        return ErrorRecovery::Expected;
    }
    // The value is larger than `proto-max-bulk-len`, and the connection is closed behind this; or someone has ended the script.
    if detail.starts_with("Protocol error") || detail.contains("Script killed") {
        return ErrorRecovery::Unclear;
    }
    ErrorRecovery::Never
}

/// Whether a user may not run scripts at all: an operator's mistake that concerns every command of a worker alike, and no task.
fn concerns_every_script(detail: &str) -> bool {
    detail.contains("'eval") || detail.contains("'script")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Error {
        let (code, detail) = line.split_once(' ').unwrap_or((line, ""));
        let server = redis::parse_redis_value(format!("-{code} {detail}\r\n").as_bytes());
        match server.and_then(redis::Value::extract_error) {
            Err(error) => Error::Redis(error),
            Ok(value) => Error::Data(format!("{value:?}")),
        }
    }

    #[test]
    fn errors_that_pass_are_told_from_those_that_stay() {
        for (recovery, lines) in [
            (
                ErrorRecovery::Expected,
                &[
                    "LOADING Redis is loading the dataset in memory",
                    "READONLY You can't write against a read only replica. script: 12ab, on @user_script:1.",
                    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                    "CLUSTERDOWN The cluster is down",
                    "TRYAGAIN Multiple keys request during rehashing of slot",
                    "MOVED 1234 127.0.0.1:7000",
                    "ASK 1234 127.0.0.1:7000",
                    "BUSY Redis is busy running a script.",
                    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
                    "NOREPLICAS Not enough good replicas to write.",
                    "OOM command not allowed when used memory > 'maxmemory'. script: 12ab, on @user_script:1.",
                    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
                    "NOSCRIPT No matching script. Please use EVAL.",
                    "NOAUTH Authentication required.",
                    "NOPERM this user has no permissions to run the 'evalsha' command",
                    "ERR max number of clients reached",
                    "ERR Error running script (call to f_12ab): @user_script:1: -OOM command not allowed when used memory > 'maxmemory'.",
                ][..],
            ),
            (
                ErrorRecovery::Never,
                &[
                    "NOPERM this user has no permissions to access one of the keys used as arguments",
                    "WRONGTYPE Operation against a key holding the wrong kind of value script: 12ab, on @user_script:1.",
                    "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: 12ab",
                    "ERR value is not an integer or out of range script: 12ab, on @user_script:1.",
                    "ERR invalid expire time in 'set' command script: 12ab, on @user_script:1.",
                    "ERR user_script:1: attempt to perform arithmetic on a nil value script: 12ab, on @user_script:1.",
                    "ERR string exceeds maximum allowed size (proto-max-bulk-len) script: 12ab, on @user_script:1.",
                    "ERR Error running script (call to f_12ab): @user_script:1: WRONGTYPE Operation against a key holding the wrong kind of value",
                    "CROSSSLOT Keys in request don't hash to the same slot",
                ],
            ),
            (
                ErrorRecovery::Unclear,
                &["ERR Protocol error: invalid bulk length", "SOMETHING that a later version says"],
            ),
        ] {
            for line in lines {
                assert_eq!(said(line).recovery(), recovery, "{line}");
            }
        }
        let io = |kind: std::io::ErrorKind| Error::Redis(std::io::Error::from(kind).into()).recovery();
        assert_eq!(io(std::io::ErrorKind::ConnectionReset), ErrorRecovery::Unclear);
        assert_eq!(io(std::io::ErrorKind::ConnectionRefused), ErrorRecovery::Expected);
        assert_eq!(io(std::io::ErrorKind::TimedOut), ErrorRecovery::Expected);
    }
}
