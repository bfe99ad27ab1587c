//! A set of line numbers, one bit each.

/// Lines of the input, by number.
#[derive(Debug, Default)]
pub struct LineSet {
    words: Vec<u64>,
}

impl LineSet {
    pub fn contains(&self, line: u64) -> bool {
        let (word, bit) = bit_of(line);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub fn insert(&mut self, line: u64) {
        let (word, bit) = bit_of(line);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= bit;
    }

    /// The lines in order, as ranges with their first and last line.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for line in (0..self.words.len() as u64 * 64).filter(|line| self.contains(*line)) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == line => *last = line,
                _ => ranges.push((line, line)),
            }
        }
        ranges
    }
}

fn bit_of(line: u64) -> (usize, u64) {
    (usize::try_from(line / 64).unwrap_or(usize::MAX - 1), 1 << (line % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_lines_form_a_range() {
        let mut set = LineSet::default();
        for line in [1, 2, 63, 64, 65, 200] {
            set.insert(line);
        }
        assert_eq!(set.ranges(), [(1, 2), (63, 65), (200, 200)]);
        assert!(set.contains(64) && !set.contains(66) && !set.contains(1_000));
    }
}
