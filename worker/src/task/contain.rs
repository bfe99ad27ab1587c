//! A panic in the story of a task ends that task alone: it counts as a crash of the task, as if its worker had died.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// Runs a future and catches a panic in it. The future is borrowed, as an argument by value would be stored twice.
///
/// # Errors
/// It panicked: what it said. It must not be polled again.
pub async fn contain<T>(mut story: Pin<&mut impl Future<Output = T>>) -> Result<T, String> {
    // Nothing that the future shares is left half changed: locks are held for a few lines that cannot panic, and the rest is in Redis.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| story.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(message(panic.as_ref()))),
    })
    .await
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it says no more".into())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_returned_whenever_it_comes() {
        assert_eq!(contain(pin!(async { 1 })).await, Ok(1));
        assert_eq!(
            contain(pin!(async { assert!(std::hint::black_box(false), "at once") })).await,
            Err("at once".into())
        );
        let later = async {
            tokio::task::yield_now().await;
            let text = format!("after {}", 1);
            assert!(std::hint::black_box(false), "{text}");
        };
        assert_eq!(contain(pin!(later)).await, Err("after 1".into()));
    }
}
