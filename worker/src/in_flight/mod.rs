//! The calls in flight to each upstream, so that one which hangs leaves room for the others: how many there may be, lending slots in place
//! of those that it holds, and draining the tasks that wait until there are fewer.

pub mod calls;
pub mod drain;
pub mod gate;
pub mod lending;
