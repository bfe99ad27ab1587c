//! The memory for the answers in hand: those that are being read, and those whose results are not stored yet. It is bounded over all slots.
//!
//! While it is spent, calls stop reading, so that their connections fill up and their upstreams wait. One of them at a time may go beyond it
//! by what one answer may have, so that there is always one that gets done. Small answers are not counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::types::Failure;

/// Answers up to this size are not counted.
const SMALL_BYTES: usize = 64 << 10;
/// How long a call waits at most, all of its waits together.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The memory for the answers in hand of all calls.
#[derive(Debug)]
pub struct AnswerMemory {
    max: usize,
    used: AtomicUsize,
    /// There is some again.
    freed: Notify,
    /// One permit: whose call may go beyond.
    beyond: Arc<Semaphore>,
    /// How often a call had to wait.
    waits: Counter,
}

/// What the answer of one call has of it. Dropping it gives that back.
#[derive(Debug)]
pub struct HeldMemory {
    memory: Arc<AnswerMemory>,
    bytes: AtomicUsize,
    waits: Mutex<Waits>,
}

/// How a call has waited.
#[derive(Debug, Default)]
struct Waits {
    ended: Duration,
    since: Option<Instant>,
    /// It may go beyond.
    beyond: Option<OwnedSemaphorePermit>,
}

impl AnswerMemory {
    /// This many bytes. `waits` counts how often a call has to wait for some.
    pub fn new(max: usize, waits: Counter) -> Self {
        Self { max, used: AtomicUsize::new(0), freed: Notify::new(), beyond: Arc::new(Semaphore::new(1)), waits }
    }

    /// For the answer of one call.
    pub fn hold(self: &Arc<Self>) -> HeldMemory {
        HeldMemory { memory: self.clone(), bytes: AtomicUsize::new(0), waits: Mutex::default() }
    }

    fn is_spent(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.max
    }

    /// Waits until there is some.
    async fn some_freed(&self) {
        loop {
            let freed = self.freed.notified();
            if !self.is_spent() {
                return;
            }
            freed.await;
        }
    }
}

impl HeldMemory {
    /// Waits until the answer may have this many bytes.
    ///
    /// # Errors
    /// It took too long.
    pub async fn may_have(&self, bytes: usize) -> Result<(), Failure> {
        let has_them = bytes <= SMALL_BYTES.max(self.bytes.load(Ordering::Relaxed));
        if has_them || !self.memory.is_spent() || self.waits.lock().beyond.is_some() {
            return Ok(());
        }
        // Boxed, as hardly any call waits.
        Box::pin(self.wait(MAX_WAIT)).await
    }

    async fn wait(&self, patience: Duration) -> Result<(), Failure> {
        self.memory.waits.inc();
        let left = patience.saturating_sub(self.waited());
        self.waits.lock().since = Some(Instant::now());
        let granted = tokio::time::timeout(left, async {
            tokio::select! {
                biased;
                () = self.memory.some_freed() => None,
                beyond = self.memory.beyond.clone().acquire_owned() => beyond.ok(),
            }
        })
        .await;
        let mut waits = self.waits.lock();
        let since = waits.since.take();
        waits.ended += since.map(|since| since.elapsed()).unwrap_or_default();
        waits.beyond = granted.map_err(|_| Failure::MemorySpent)?;
        Ok(())
    }

    /// The answer occupies this many bytes now.
    pub fn set(&self, bytes: usize) {
        let counted = if bytes > SMALL_BYTES { bytes } else { 0 };
        let before = self.bytes.swap(counted, Ordering::Relaxed);
        if counted > before {
            self.memory.used.fetch_add(counted - before, Ordering::Relaxed);
        } else if counted < before {
            self.give_back(before - counted);
        }
    }

    /// Whether an answer of this size is counted.
    pub fn counts(bytes: usize) -> bool {
        bytes > SMALL_BYTES
    }

    /// Whether it has any.
    pub fn is_empty(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }

    /// How long its call has waited for it.
    pub fn waited(&self) -> Duration {
        let waits = self.waits.lock();
        waits.ended + waits.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Whether its call has waited for it.
    pub fn has_waited(&self) -> bool {
        !self.waited().is_zero()
    }

    fn give_back(&self, bytes: usize) {
        let memory = &self.memory;
        let before = memory.used.fetch_sub(bytes, Ordering::Relaxed);
        if before >= memory.max && before - bytes < memory.max {
            memory.freed.notify_waiters();
        }
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        let bytes = std::mem::take(self.bytes.get_mut());
        if bytes > 0 {
            self.give_back(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    async fn is_waiting(held: &HeldMemory) -> bool {
        tokio::time::timeout(Duration::from_millis(20), held.may_have(2 * MIB)).await.is_err()
    }

    #[tokio::test]
    async fn small_answers_cost_nothing_and_never_wait() {
        let memory = Arc::new(AnswerMemory::new(MIB, Counter::default()));
        let small: Vec<HeldMemory> = (0..100).map(|_| memory.hold()).collect();
        for held in &small {
            held.set(SMALL_BYTES);
        }
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        let large = memory.hold();
        large.set(MIB);
        assert!(small[0].may_have(SMALL_BYTES).await.is_ok());
    }

    #[tokio::test]
    async fn one_call_at_a_time_goes_beyond_the_memory_and_the_others_wait_until_there_is_some() {
        let memory = Arc::new(AnswerMemory::new(MIB, Counter::default()));
        let (first, second, third) = (memory.hold(), memory.hold(), memory.hold());
        first.set(MIB);
        assert!(second.may_have(2 * MIB).await.is_ok(), "it goes beyond");
        second.set(2 * MIB);
        assert!(is_waiting(&third).await && is_waiting(&first).await);
        assert!(third.waited() >= Duration::from_millis(20));
        drop(second);
        assert!(third.may_have(2 * MIB).await.is_ok());
        drop((first, third));
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        assert!(memory.hold().may_have(2 * MIB).await.is_ok());
    }

    #[tokio::test]
    async fn a_wait_ends_with_its_patience() {
        let memory = Arc::new(AnswerMemory::new(MIB, Counter::default()));
        let (first, second, third) = (memory.hold(), memory.hold(), memory.hold());
        first.set(MIB);
        assert!(second.may_have(2 * MIB).await.is_ok());
        assert_eq!(third.wait(Duration::from_millis(20)).await, Err(Failure::MemorySpent));
    }
}
