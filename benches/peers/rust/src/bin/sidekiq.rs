//! rusty-sidekiq. A worker for each call in flight, as its settings advise for work that waits, and a connection to Redis for each, as every worker
//! holds one while it waits for a job. It stores no results, and pushes one job at a time.

use async_trait::async_trait;
use rust_peers::{Request, Work, redis_url};
use sidekiq::{Processor, ProcessorConfig, RedisConnectionManager, Worker};

#[derive(Clone)]
struct Caller;

#[async_trait]
impl Worker<Work> for Caller {
    async fn perform(&self, work: Work) -> sidekiq::Result<()> {
        work.call().await.map_err(|error| sidekiq::Error::Any(error.into()))?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let request = Request::read()?;
    let connections = match request {
        Request::Enqueue(_) => 8,
        Request::Work(at_once) => u32::try_from(at_once)? + 8,
    };
    let manager = RedisConnectionManager::new(redis_url()?)?;
    let redis = bb8::Pool::builder().max_size(connections).build(manager).await?;
    match request {
        Request::Enqueue(tasks) => {
            let work = Work::read()?;
            for _ in 0..tasks {
                Caller::perform_async(&redis, work.clone()).await?;
            }
        }
        Request::Work(at_once) => {
            let config = ProcessorConfig::default().num_workers(at_once);
            let mut processor = Processor::new(redis, vec!["default".to_owned()]).with_config(config);
            processor.register(Caller);
            processor.run().await;
        }
    }
    Ok(())
}
