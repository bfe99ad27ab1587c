//! A grant in a worker's hand: the call may go at its moment. One that is not used goes back.

use std::sync::Arc;
use std::time::Instant;

use redial_core::limit::Adjustment;

use super::client::{ConcurrencySlot, LimitClient};

/// A limit's grant for one call. Dropping it gives it back, unless the call was made.
#[derive(Debug)]
pub struct HeldGrant {
    client: Arc<LimitClient>,
    /// The name of the limit.
    pub limit: String,
    /// What it took of the limit.
    pub cost: f64,
    /// The moment of the call, by the limit's clock in us; 0: any.
    pub at: f64,
    /// When the grant came here.
    granted: Instant,
    /// When the limit was asked for it.
    pub asked: Instant,
    /// The place that the call had in its wait list, if it waited there.
    pub position: Option<String>,
    /// The concurrency slot that it holds.
    pub slot: Option<ConcurrencySlot>,
    is_used: bool,
}

impl HeldGrant {
    /// Takes over what a limit has granted for the moment `at`.
    pub fn new(
        client: &Arc<LimitClient>,
        limit: &str,
        cost: f64,
        at: f64,
        slot: Option<ConcurrencySlot>,
        position: Option<String>,
        asked: Instant,
    ) -> Self {
        let (client, granted) = (client.clone(), Instant::now());
        Self { client, limit: limit.to_owned(), cost, at, granted, asked, position, slot, is_used: false }
    }

    /// The moment of the call here, as far as the limit's clock is known by now: better than when the grant came.
    pub fn due(&self) -> Instant {
        if self.is_timed() { self.client.local(&self.limit, self.at) } else { self.granted }
    }

    /// Whether the call has a moment, and may go at no other.
    pub fn is_timed(&self) -> bool {
        self.at > 0.0
    }

    /// The call is made, or the limit has been told otherwise: nothing goes back any more.
    pub fn mark_used(&mut self) {
        self.is_used = true;
    }

    /// The call was not made after all.
    pub fn give_back(mut self) {
        self.is_used = false;
    }
}

impl Drop for HeldGrant {
    /// Sent once: if it is lost, some of the rate is lost; if it were sent twice, too many calls could go.
    fn drop(&mut self) {
        if self.is_used {
            return;
        }
        let (client, limit) = (self.client.clone(), std::mem::take(&mut self.limit));
        let refund = Adjustment::refund(self.cost, self.at);
        self.client.background().spawn(async move {
            if let Err(error) = client.limits().adjust(&limit, &refund).await {
                tracing::debug!(%error, limit, "could not give a grant back");
            }
        });
    }
}
