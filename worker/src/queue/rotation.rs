//! Whose turn it is to claim: smooth weighted round-robin, as nginx picks its upstreams. Of 7 turns with weights 6 and 1, six go to the
//! first queue and one to the second; no queue with a weight above 0 starves.

/// Whose turn it is among the queues that have tasks.
#[derive(Debug)]
pub struct Rotation {
    queues: Vec<Turns>,
}

/// One queue's share of the turns.
#[derive(Debug)]
struct Turns {
    weight: i64,
    /// What it has saved up: it grows by the weight with each turn, and a turn of its own costs the weights of all.
    credit: i64,
    /// Whether it takes part. A queue that has nothing to claim saves up nothing.
    is_busy: bool,
}

impl Rotation {
    /// A rotation with these weights, in which no queue takes part yet.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let turns = |weight| Turns { weight: i64::from(weight), credit: 0, is_busy: false };
        Self { queues: weights.into_iter().map(turns).collect() }
    }

    /// A queue takes part from now on: it may have tasks.
    pub fn join(&mut self, queue: usize) {
        self.queues[queue].is_busy = true;
    }

    /// A queue has given all that it has.
    pub fn leave(&mut self, queue: usize) {
        self.queues[queue].is_busy = false;
        self.queues[queue].credit = 0;
    }

    /// Gives the next turn to one of the queues that are `ready` to claim. A queue that takes part but is not ready, because its last
    /// claim has not been answered yet, saves up for later, but no more than one round's worth: it may not be answered for long.
    pub fn next(&mut self, ready: impl Fn(usize) -> bool) -> Option<usize> {
        let busy: i64 = self.queues.iter().filter(|turns| turns.is_busy).map(|turns| turns.weight).sum();
        for turns in self.queues.iter_mut().filter(|turns| turns.is_busy) {
            turns.credit = turns.credit.min(busy) + turns.weight;
        }
        let candidates = (0..self.queues.len()).filter(|queue| ready(*queue));
        // The first of several with the same credit.
        let next = candidates.max_by_key(|queue| (self.queues[*queue].credit, std::cmp::Reverse(*queue)))?;
        let turns = &mut self.queues[next];
        turns.credit = (turns.credit - busy).max(-busy);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation<const N: usize>(weights: [u32; N]) -> Rotation {
        let mut rotation = Rotation::new(weights);
        (0..N).for_each(|queue| rotation.join(queue));
        rotation
    }

    #[test]
    fn turns_follow_the_weights_and_are_spread_out() {
        let mut two = rotation([6, 1]);
        let turns: Vec<Option<usize>> = (0..14).map(|_| two.next(|_| true)).collect();
        assert_eq!(turns, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0].map(Some));
        let mut three = rotation([5, 3, 2]);
        let mut turns = [0; 3];
        for _ in 0..1000 {
            turns[three.next(|_| true).unwrap_or_default()] += 1;
        }
        assert_eq!(turns, [500, 300, 200]);
    }

    #[test]
    fn a_queue_that_is_still_claiming_gets_its_turns_afterwards() {
        let mut rotation = rotation([6, 1]);
        let mut turns = [0; 2];
        for n in 0..700 {
            // The first queue is ready every other time, for its last claim is not answered in between.
            let next = rotation.next(|queue| queue == 1 || n % 2 == 0);
            turns[next.unwrap_or_default()] += 1;
        }
        assert_eq!(turns, [350, 350], "it has every turn for which it is ready");
    }

    #[test]
    fn one_that_does_not_answer_saves_up_no_more_than_a_round() {
        let mut rotation = rotation([1, 1]);
        for _ in 0..1_000 {
            assert_eq!(rotation.next(|queue| queue == 1), Some(1));
        }
        let next: Vec<Option<usize>> = (0..8).map(|_| rotation.next(|_| true)).collect();
        assert!(next[..4].contains(&Some(1)), "{next:?}");
        assert!(next[4..].iter().filter(|queue| **queue == Some(0)).count() == 2, "{next:?}");
    }

    #[test]
    fn nobody_is_ready_and_nobody_takes_part() {
        assert_eq!(rotation([1, 2]).next(|_| false), None);
        let mut idle = Rotation::new([1, 2]);
        assert_eq!(idle.next(|queue| queue == 1), Some(1));
        assert_eq!(Rotation::new([]).next(|_| true), None);
    }
}
