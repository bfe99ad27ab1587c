//! The calls that this worker has in flight, by upstream: a `[[upstream]]` block, or else the origin of the URL.
//!
//! An upstream may have as many calls in flight as there are slots, or as its block says. While it is slow, tasks that wait for it come
//! before new ones, and those of its calls that hold more than its share of the slots have others lent in their place: see `lending.rs`.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

/// A call that takes longer than this is slow, and so is an upstream whose calls take longer on average.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// How exactly it is known when the calls in flight began.
const START_PRECISION: Duration = Duration::from_millis(250);
/// What the last call counts in the average of how long calls take.
const LAST_SHARE: f64 = 0.1;
/// Beyond this many upstreams, those without a call or a waiting task are forgotten; if there are none, calls of others are not counted.
const MAX_UPSTREAMS: usize = 10_000;

/// The calls in flight to all upstreams of a worker.
#[derive(Debug)]
pub struct CallsInFlight {
    upstreams: Mutex<HashMap<String, Arc<UpstreamCalls>>>,
    slots: usize,
    /// Where it is announced that tasks wait and nobody drains them.
    drains: mpsc::UnboundedSender<Arc<UpstreamCalls>>,
}

/// The calls in flight to one upstream.
#[derive(Debug)]
pub struct UpstreamCalls {
    name: String,
    slots: usize,
    state: Mutex<State>,
    /// A call has ended, or another task waits.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Calls that are under way, or admitted to it.
    in_flight: usize,
    /// Those of them that have begun.
    begun: usize,
    /// Those of them whose slot was replaced by a lent one.
    lent: usize,
    /// How many began when, of those that began lately.
    recent: VecDeque<(Instant, usize)>,
    /// How long calls take: a moving average.
    average: Duration,
    /// The most that the operator allows.
    max: Option<usize>,
    /// Whether the tasks that wait are drained here.
    is_draining: bool,
    /// The queues in which a task may wait of which the drain does not know.
    unread: BTreeSet<String>,
}

/// One call in flight. Dropping it ends it.
#[derive(Debug)]
pub struct CallInFlight {
    upstream: Arc<UpstreamCalls>,
    began: Option<Instant>,
    is_lent: bool,
    /// Whether its task has waited for it.
    pub has_waited: bool,
}

impl CallsInFlight {
    /// No calls yet, in this many slots.
    pub fn new(slots: usize, drains: mpsc::UnboundedSender<Arc<UpstreamCalls>>) -> Self {
        Self { upstreams: Mutex::default(), slots, drains }
    }

    /// Admits a call to an upstream, of which the operator allows at most `max`. `None`: it is not counted, because there are too many
    /// upstreams.
    ///
    /// # Errors
    /// The upstream is busy: it has as many calls in flight as it may, or other tasks wait for it.
    pub fn admit(
        &self,
        upstream: Cow<'_, str>,
        max: Option<usize>,
    ) -> Result<Option<CallInFlight>, Arc<UpstreamCalls>> {
        let Some(upstream) = self.of(upstream) else { return Ok(None) };
        {
            let mut state = upstream.state.lock();
            state.max = max;
            let gives_way = state.is_draining && (max.is_some() || upstream.is_slow(&mut state));
            if state.in_flight < upstream.most(&state) && !gives_way {
                state.in_flight += 1;
                drop(state);
                return Ok(Some(CallInFlight { upstream, began: None, is_lent: false, has_waited: false }));
            }
        }
        Err(upstream)
    }

    /// A task of this queue waits for an upstream, or may do so.
    pub fn waits(&self, upstream: &str, queue: &str) {
        let Some(upstream) = self.of(Cow::Borrowed(upstream)) else { return };
        let is_first = {
            let mut state = upstream.state.lock();
            state.unread.insert(queue.to_owned());
            !std::mem::replace(&mut state.is_draining, true)
        };
        if is_first {
            // Nobody listens any more only once the worker claims nothing.
            let _ = self.drains.send(upstream);
        } else {
            upstream.changed.notify_one();
        }
    }

    /// The upstreams whose slow calls hold more than their share of the slots, each with by how many.
    pub fn excesses(&self) -> Vec<(Arc<UpstreamCalls>, usize)> {
        let upstreams = self.upstreams.lock();
        let excess = |upstream: &Arc<UpstreamCalls>| Some((upstream.clone(), upstream.excess()?));
        upstreams.values().filter_map(excess).collect()
    }

    fn of(&self, name: Cow<'_, str>) -> Option<Arc<UpstreamCalls>> {
        let mut all = self.upstreams.lock();
        if let Some(known) = all.get(name.as_ref()) {
            return Some(known.clone());
        }
        if all.len() >= MAX_UPSTREAMS {
            // A clone elsewhere is about to be used.
            all.retain(|_, upstream| Arc::strong_count(upstream) > 1 || upstream.is_in_use());
            if all.len() >= MAX_UPSTREAMS {
                return None;
            }
        }
        let name = name.into_owned();
        let upstream = Arc::new(UpstreamCalls {
            name: name.clone(),
            slots: self.slots,
            state: Mutex::default(),
            changed: Notify::new(),
        });
        all.insert(name, upstream.clone());
        Some(upstream)
    }
}

impl UpstreamCalls {
    /// What its URLs begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Admits the call of a task that has waited, if there is room for it.
    pub fn admit_waiting(self: &Arc<Self>) -> Option<CallInFlight> {
        let mut state = self.state.lock();
        if state.in_flight >= self.most(&state) {
            return None;
        }
        state.in_flight += 1;
        drop(state);
        Some(CallInFlight { upstream: self.clone(), began: None, is_lent: false, has_waited: true })
    }

    /// How many more calls there may be, if the operator allows `max`.
    pub fn room(&self, max: Option<usize>) -> usize {
        let mut state = self.state.lock();
        state.max = max;
        self.most(&state).saturating_sub(state.in_flight)
    }

    /// Waits until a call has ended or another task waits.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The queues in which a task may wait of which the drain does not know. From now on it does.
    pub fn take_unread(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.state.lock().unread)
    }

    /// Nothing waits, as far as the drain knows. `false`: something does by now, so it has to go on.
    pub fn end_drain(&self) -> bool {
        let mut state = self.state.lock();
        state.is_draining = !state.unread.is_empty();
        !state.is_draining
    }

    fn is_in_use(&self) -> bool {
        let state = self.state.lock();
        state.in_flight > 0 || state.is_draining
    }

    /// The most calls in flight.
    fn most(&self, state: &State) -> usize {
        state.max.unwrap_or(self.slots)
    }

    /// How many slots its slow calls may keep: half of them, so that the others have as many.
    fn share(&self, state: &State) -> usize {
        state.max.unwrap_or_else(|| self.slots.div_ceil(2))
    }

    fn is_slow(&self, state: &mut State) -> bool {
        state.slow_calls() >= self.share(state)
    }

    fn excess(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let held = state.slow_calls().saturating_sub(state.lent);
        Some(held.saturating_sub(self.share(&state))).filter(|excess| *excess > 0)
    }
}

impl State {
    /// How many calls in flight are slow already, or will be if they are like those before them.
    fn slow_calls(&mut self) -> usize {
        if self.average > SLOW_AFTER {
            return self.begun;
        }
        self.forget_old_starts();
        self.begun.saturating_sub(self.recent.iter().map(|(_, count)| count).sum())
    }

    fn forget_old_starts(&mut self) {
        while self.recent.front().is_some_and(|(at, _)| at.elapsed() > SLOW_AFTER) {
            self.recent.pop_front();
        }
    }

    fn begin(&mut self, now: Instant) -> Instant {
        self.begun += 1;
        if let Some((at, count)) = self.recent.back_mut().filter(|(at, _)| now.duration_since(*at) < START_PRECISION) {
            *count += 1;
            return *at;
        }
        self.forget_old_starts();
        self.recent.push_back((now, 1));
        now
    }

    fn end(&mut self, began: Instant, is_lent: bool) {
        self.begun -= 1;
        self.lent -= usize::from(is_lent);
        self.average = self.average.mul_f64(1.0 - LAST_SHARE) + began.elapsed().mul_f64(LAST_SHARE);
        if let Some((_, count)) = self.recent.iter_mut().rev().find(|(at, _)| *at == began) {
            *count -= 1;
        }
    }
}

impl CallInFlight {
    /// The call begins.
    pub fn begin(&mut self) {
        self.began = Some(self.upstream.state.lock().begin(Instant::now()));
    }

    /// Whether it is a slow call to this upstream, or will be if it is like those before it, and no slot was lent in place of its own.
    pub fn may_be_lent_for(&self, upstream: &Arc<UpstreamCalls>) -> bool {
        let is_slow = |began: Instant| began.elapsed() > SLOW_AFTER || upstream.state.lock().average > SLOW_AFTER;
        !self.is_lent && Arc::ptr_eq(&self.upstream, upstream) && self.began.is_some_and(is_slow)
    }

    /// A slot was lent in place of its own.
    pub fn set_lent(&mut self) {
        self.is_lent = true;
        self.upstream.state.lock().lent += 1;
    }
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        let has_waiting = {
            let mut state = self.upstream.state.lock();
            state.in_flight -= 1;
            if let Some(began) = self.began {
                state.end(began, self.is_lent);
            }
            state.is_draining
        };
        if has_waiting {
            self.upstream.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(slots: usize) -> (CallsInFlight, mpsc::UnboundedReceiver<Arc<UpstreamCalls>>) {
        let (drains, signals) = mpsc::unbounded_channel();
        (CallsInFlight::new(slots, drains), signals)
    }

    fn admit(calls: &CallsInFlight, max: Option<usize>) -> Option<CallInFlight> {
        calls.admit(Cow::Borrowed("https://h.example"), max).ok().flatten()
    }

    #[test]
    fn an_upstream_has_no_more_calls_in_flight_than_slots_or_than_its_block_allows() {
        for (max, most) in [(None, 4), (Some(3), 3), (Some(9), 9)] {
            let (calls, _signals) = calls(4);
            let mut held: Vec<_> = (0..most).map(|_| admit(&calls, max)).collect();
            assert!(held.iter().all(Option::is_some), "{max:?}");
            assert!(admit(&calls, max).is_none(), "{max:?}");
            held.pop();
            assert!(admit(&calls, max).is_some(), "{max:?}");
        }
    }

    #[test]
    fn quick_calls_keep_all_slots_and_slow_ones_half_of_them() {
        let (calls, _signals) = calls(4);
        let mut held: Vec<CallInFlight> = (0..4).filter_map(|_| admit(&calls, None)).collect();
        held.iter_mut().for_each(CallInFlight::begin);
        assert!(calls.excesses().is_empty());
        let upstream = held[0].upstream.clone();
        // As if they had begun long ago.
        upstream.state.lock().recent.clear();
        assert_eq!(calls.excesses().iter().map(|(_, excess)| *excess).collect::<Vec<_>>(), [2]);
        held[0].set_lent();
        held[1].set_lent();
        assert!(calls.excesses().is_empty());
        held.clear();
        let state = upstream.state.lock();
        assert_eq!((state.in_flight, state.begun, state.lent), (0, 0, 0));
    }

    #[test]
    fn a_new_task_gives_way_to_those_that_wait_if_the_upstream_is_slow() -> anyhow::Result<()> {
        let (calls, mut signals) = calls(4);
        let mut held: Vec<CallInFlight> = (0..2).filter_map(|_| admit(&calls, None)).collect();
        held.iter_mut().for_each(CallInFlight::begin);
        calls.waits("https://h.example", "default");
        let upstream = signals.try_recv()?;
        assert!(admit(&calls, None).is_some(), "it is quick");
        upstream.state.lock().recent.clear();
        assert!(admit(&calls, None).is_none());
        assert!(upstream.admit_waiting().is_some_and(|call| call.has_waited));
        assert!(!upstream.end_drain(), "a queue is unread");
        assert_eq!(upstream.take_unread().into_iter().collect::<Vec<_>>(), ["default"]);
        assert!(upstream.end_drain());
        assert!(admit(&calls, None).is_some());
        Ok(())
    }

    #[test]
    fn the_table_of_upstreams_is_bounded() {
        let (calls, _signals) = calls(4);
        for n in 0..MAX_UPSTREAMS + 10 {
            let call = calls.admit(Cow::Owned(format!("https://h{n}.example")), None);
            assert!(call.is_ok_and(|call| call.is_some()));
        }
        assert!(calls.upstreams.lock().len() <= MAX_UPSTREAMS);
    }
}
