//! apalis-redis. A batch of 100 tasks is fetched at a time, as Redial does, where the default is 10; each runs as a task of tokio's. No events
//! are published. Results are stored, by default. It fetches no more than Lua can unpack, which is why fewer tasks wait here than elsewhere.

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage, connect};
use rust_peers::{BULK, Request, Work, redis_url};
use serde_json::Value;

async fn call(work: Work) -> Result<Value, BoxDynError> {
    Ok(work.call().await?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::default().queue("calls").batch_size(100).emit_events(false);
    let mut storage = RedisStorage::new(connect(redis_url()?).await?).with_config(config);
    match Request::read()? {
        Request::Enqueue(tasks) => {
            let work = Work::read()?;
            for first in (0..tasks).step_by(BULK) {
                storage.push_bulk(vec![work.clone(); BULK.min(tasks - first)]).await?;
            }
        }
        Request::Work(at_once) => {
            let worker = WorkerBuilder::new("calls");
            worker.backend(storage).concurrency(at_once).parallelize(tokio::spawn).build(call).run().await?;
        }
    }
    Ok(())
}
