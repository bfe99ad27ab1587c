//! Reading the events of a queue as they happen. However many readers there are, they share one connection that blocks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::broadcast;

use super::log::{EventPage, pages};
use crate::db::{BLOCK_TIMEOUT, Link, stream_entries};
use crate::script::millis;
use crate::{EntryId, Error, Queue};

/// How many entries wait for a slow reader. It reads those that it misses from Redis.
const MAX_WAITING: usize = 256;
/// How many entries are read at a time.
const PAGE_SIZE: usize = 100;

/// Reads the events of a queue. Clones share their connection, which exists while anyone reads. It needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct EventFeed {
    shared: Arc<SharedFeed>,
}

#[derive(Debug)]
struct SharedFeed {
    queue: Queue,
    link: Link,
    /// Every entry as it is written. An empty one says that entries up to it may have been missed.
    pages: broadcast::Sender<Arc<EventPage>>,
    is_running: Mutex<bool>,
}

/// The events of a queue from some entry on, as they happen.
#[derive(Debug)]
pub struct EventReader {
    shared: Arc<SharedFeed>,
    live: broadcast::Receiver<Arc<EventPage>>,
    last: EntryId,
    kept: VecDeque<EventPage>,
    /// All that is kept has been read, so that only what is written from now on is missing.
    is_live: bool,
}

impl EventFeed {
    /// A feed of the events of `queue`. It connects when it is first read.
    pub fn new(queue: Queue) -> Self {
        let (pages, _) = broadcast::channel(MAX_WAITING);
        let link = queue.db().blocking_link();
        Self { shared: Arc::new(SharedFeed { queue, link, pages, is_running: Mutex::new(false) }) }
    }

    /// Reads the events behind an entry: [`EntryId::START`] for all that are kept.
    pub fn read(&self, after: EntryId) -> EventReader {
        let shared = self.shared.clone();
        // Nothing panics while it holds the lock.
        let mut is_running = shared.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        let live = shared.pages.subscribe();
        if !std::mem::replace(&mut *is_running, true) {
            tokio::spawn(shared.clone().run());
        }
        drop(is_running);
        EventReader { shared, live, last: after, kept: VecDeque::new(), is_live: false }
    }
}

impl EventReader {
    /// The next events, as soon as there are any. It waits while Redis is away. It is safe to drop the future: no event is lost.
    pub async fn next(&mut self) -> EventPage {
        loop {
            if let Some(page) = self.kept.pop_front() {
                self.last = page.id;
                return page;
            }
            if !self.is_live {
                match self.shared.queue.events_after(self.last, PAGE_SIZE).await {
                    Ok(pages) if pages.is_empty() => self.is_live = true,
                    Ok(pages) => self.kept = pages.into(),
                    Err(error) => pause(&error).await,
                }
                continue;
            }
            match self.live.recv().await {
                Ok(page) if page.id <= self.last => {}
                Ok(page) if !page.events.is_empty() => {
                    self.last = page.id;
                    return page.as_ref().clone();
                }
                // The sender is in `shared`, so that it cannot be gone.
                Ok(_) | Err(_) => self.is_live = false,
            }
        }
    }
}

impl SharedFeed {
    /// Reads until nobody does any more.
    async fn run(self: Arc<Self>) {
        let mut last = None;
        while self.is_read() {
            let read = match last {
                None => self.begin().await.map(|begun| last = Some(begun)),
                Some(after) => self.read(after).await.map(|pages| {
                    for page in pages {
                        last = Some(page.id);
                        // It fails if nobody reads any more.
                        let _ = self.pages.send(Arc::new(page));
                    }
                }),
            };
            if let Err(error) = read {
                pause(&error).await;
            }
        }
        self.link.close().await;
    }

    /// Whether anyone reads. If not, the next reader starts another loop.
    fn is_read(&self) -> bool {
        let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        *is_running = self.pages.receiver_count() > 0;
        *is_running
    }

    /// Where the stream ends now. Readers that were there before have to look for what was written until then.
    async fn begin(&self) -> Result<EntryId, Error> {
        let last = self.queue.last_event().await?;
        let _ = self.pages.send(Arc::new(EventPage { id: last, events: Vec::new() }));
        Ok(last)
    }

    async fn read(&self, after: EntryId) -> Result<Vec<EventPage>, Error> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(PAGE_SIZE).arg("BLOCK").arg(millis(BLOCK_TIMEOUT));
        read.arg("STREAMS").arg(&self.queue.keys.events).arg(after.to_string());
        let reply: Value = self.link.run(async |connection| read.query_async(connection).await).await?;
        Ok(stream_entries::streams(reply)?.into_iter().flat_map(|(_, entries)| pages(entries)).collect())
    }
}

/// The pause between attempts while Redis is away, random so that readers do not come back together.
async fn pause(error: &Error) {
    tracing::debug!(%error, "could not read events; trying again");
    tokio::time::sleep(Duration::from_millis(rand::random_range(100..=500))).await;
}
