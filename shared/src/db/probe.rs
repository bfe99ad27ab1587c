//! Whether a connection to Redis works, as long as nothing but `PING` is sent over it.

use std::time::Duration;

use redis::RedisResult;
use redis::aio::ConnectionLike;

/// How long a connection has to stay open to be taken for one that works.
const PROBE_TIME: Duration = Duration::from_millis(100);

/// Sends two `PING`s, a moment apart.
///
/// # Errors
/// One of them is not answered.
pub(super) async fn ping_twice(connection: &mut impl ConnectionLike) -> RedisResult<()> {
    redis::cmd("PING").exec_async(connection).await?;
    tokio::time::sleep(PROBE_TIME).await;
    redis::cmd("PING").exec_async(connection).await
}
