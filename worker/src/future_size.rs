//! How large a future is, for tests: it is copied when it is spawned or boxed, and lies in memory for as long as its task waits.

/// The size in bytes of what a call would return, such as the future of an async function.
pub fn size_of_returned<T>(_: impl FnOnce() -> T) -> usize {
    size_of::<T>()
}

/// An argument for such a call, which is not made.
pub fn never<T>() -> T {
    unreachable!("only the type counts")
}
