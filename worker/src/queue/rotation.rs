//! Which queue to claim from first: smooth weighted round-robin, as nginx picks its upstreams. Of 7 turns with weights 6 and 1,
//! six go to the first queue and one to the second; no queue with a weight above 0 starves.

/// Whose turn it is among some queues.
#[derive(Debug)]
pub struct Rotation {
    weights: Vec<i64>,
    credit: Vec<i64>,
}

impl Rotation {
    /// A rotation with these weights.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<i64> = weights.into_iter().map(i64::from).collect();
        Self { credit: vec![0; weights.len()], weights }
    }

    /// The next order: first the queue whose turn it is, then the others by their credit.
    pub fn next_order(&mut self) -> Vec<usize> {
        for (credit, weight) in self.credit.iter_mut().zip(&self.weights) {
            *credit += weight;
        }
        let mut order: Vec<usize> = (0..self.weights.len()).collect();
        order.sort_by_key(|queue| std::cmp::Reverse(self.credit[*queue]));
        if let Some(first) = order.first() {
            self.credit[*first] -= self.weights.iter().sum::<i64>();
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_the_weights_and_are_spread_out() {
        let mut rotation = Rotation::new([6, 1]);
        let firsts: Vec<usize> = (0..14).map(|_| rotation.next_order()[0]).collect();
        assert_eq!(firsts, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        let mut rotation = Rotation::new([5, 3, 2]);
        let mut turns = [0; 3];
        for _ in 0..1000 {
            turns[rotation.next_order()[0]] += 1;
        }
        assert_eq!(turns, [500, 300, 200]);
    }
}
