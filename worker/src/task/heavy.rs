//! Work that a large task or response makes long, such as parsing a megabyte of JSON. It runs where it blocks no other task.

use std::sync::LazyLock;

use tokio::sync::Semaphore;

/// Input up to this size takes far less than a millisecond, and is handled at once.
pub const SMALL_BYTES: usize = 32 << 10;

/// As many at a time as there are cores; more would only share them.
static CORES: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, Into::into)));

/// Does work on an input of this size. If that is large, the tasks of this thread move to another one meanwhile.
pub async fn work<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes <= SMALL_BYTES {
        return work();
    }
    // It is never closed. If it were, the work would still have to be done.
    let _core = CORES.acquire().await;
    tokio::task::block_in_place(work)
}
