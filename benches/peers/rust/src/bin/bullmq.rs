//! bullmq-official, the port of BullMQ by its authors. Completed jobs are kept with their return value, as by default.

use std::sync::Arc;

use bullmq::worker::{CancellationToken, ProcessorFn};
use bullmq::options::RedisConnectionOptions;
use bullmq::{BulkJob, Job, Queue, QueueOptions, Worker, WorkerOptions};
use rust_peers::{BULK, Request, Work, redis_url};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let connection = RedisConnectionOptions { url: redis_url()?, ..RedisConnectionOptions::default() };
    match Request::read()? {
        Request::Enqueue(tasks) => {
            let queue = Queue::with_options("calls", QueueOptions { connection, ..QueueOptions::default() }).await?;
            let work = Work::read()?;
            for first in (0..tasks).step_by(BULK) {
                let jobs = (first..tasks.min(first + BULK)).map(|_| BulkJob::new("call", work.clone()));
                queue.add_bulk(jobs.collect()).await?;
            }
        }
        Request::Work(concurrency) => {
            let call: ProcessorFn = Arc::new(|job: Job, _: CancellationToken| {
                Box::pin(async move {
                    let work: Work = serde_json::from_value(job.data().clone())?;
                    work.call().await.map_err(|error| bullmq::Error::ProcessingError(error.to_string()))
                })
            });
            let options = WorkerOptions { connection, concurrency, ..WorkerOptions::default() };
            let _worker = Worker::with_options("calls", call, options).await?;
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}
