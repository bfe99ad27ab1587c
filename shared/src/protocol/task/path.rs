//! A JSONPath whose cost is bounded before it is parsed, and before it is evaluated.
//!
//! The parser's time doubles with each nested filter, and its stack grows with each bracket. The evaluation may visit every value of a
//! result many times. So a path is first measured by its text, in one pass without recursion.

use serde_json::Value;
use serde_json_path::JsonPath;

use super::error::PathError;

/// The longest path, in bytes.
const MAX_BYTES: usize = 1_000;
/// How deep brackets and parentheses of a path may nest.
const MAX_NESTING: usize = 16;
/// The most filters in a path, side by side or nested.
const MAX_FILTERS: usize = 4;
/// The most lists that unions may make of one value: `[0,1][0,1]` makes four.
const MAX_UNION: u64 = 64;

/// How many values all paths of a task may visit, each counted by how much work it is: about a second.
pub(super) const BUDGET: u64 = 50_000_000;

/// A path that was measured and parsed.
#[derive(Debug, Clone)]
pub(super) struct BoundedPath {
    text: String,
    path: JsonPath,
    shape: Shape,
}

/// What decides how much work a path is.
#[derive(Debug, Clone, Default, PartialEq)]
struct Shape {
    filters: usize,
    /// Segments that select all descendants.
    descents: usize,
    /// Whether it can select more than one value.
    is_plural: bool,
    /// How often a union can select the same value.
    union: u64,
    /// Queries inside filters that begin at the root and may select more than one value.
    inner_roots: usize,
}

/// A result in which paths look for values, and how much they may still do.
pub(super) struct Searched<'a> {
    result: &'a Value,
    /// The number of values in it, and how deep they nest; counted when it is first needed.
    extent: Option<(u64, u64)>,
    budget: u64,
}

impl<'a> Searched<'a> {
    pub(super) fn new(result: &'a Value) -> Self {
        Self::within(result, BUDGET)
    }

    /// Paths may do that much work in all.
    pub(super) fn within(result: &'a Value, budget: u64) -> Self {
        Self { result, extent: None, budget }
    }

    /// How much work is left.
    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    /// Everything that a path finds.
    ///
    /// # Errors
    /// It finds nothing, or would take too long.
    pub(super) fn find(&mut self, path: &BoundedPath) -> Result<Vec<&'a Value>, PathError> {
        let cost = if path.shape.is_plural {
            let (values, depth) = *self.extent.get_or_insert_with(|| extent(self.result));
            path.shape.cost(path.text.len(), values, depth)
        } else {
            path.text.len() as u64
        };
        let left = self.budget.checked_sub(cost).ok_or_else(|| PathError::TooSlow(path.text.clone()))?;
        self.budget = left;
        let found = path.path.query(self.result).all();
        if found.is_empty() { Err(PathError::NotFound(path.text.clone())) } else { Ok(found) }
    }
}

impl BoundedPath {
    /// Measures and parses a path.
    ///
    /// # Errors
    /// It is too complex, or not a JSONPath.
    pub(super) fn parse(text: &str) -> Result<Self, PathError> {
        let shape = Shape::of(text).map_err(|why| {
            let start: String = text.chars().take(40).collect();
            PathError::TooComplex { path: start, why }
        })?;
        let path = JsonPath::parse(text)
            .map_err(|error| PathError::Syntax { path: text.to_owned(), why: error.to_string() })?;
        Ok(Self { text: text.to_owned(), path, shape })
    }

    /// Whether its work may grow faster than the number of values that it looks at.
    pub(super) fn is_costly(&self) -> bool {
        self.shape.descents > 0 || self.shape.inner_roots > 0 || self.shape.union > 1 || self.text.len() > 200
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// How many filters it has.
    pub(super) fn filters(&self) -> usize {
        self.shape.filters
    }
}

impl Shape {
    /// Measures a path by its text, which need not be valid.
    fn of(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("it has {} bytes, at most {MAX_BYTES} are allowed", text.len()));
        }
        let mut shape = Self { union: 1, ..Self::default() };
        // For each open bracket or parenthesis: how many commas it has so far.
        let mut open: Vec<u64> = Vec::new();
        let mut rest = text.char_indices();
        while let Some((at, character)) = rest.next() {
            match character {
                '"' | '\'' => skip_string(&mut rest, character),
                '[' | '(' => {
                    open.push(0);
                    if open.len() > MAX_NESTING {
                        return Err(format!("its brackets nest deeper than {MAX_NESTING} levels"));
                    }
                }
                ']' | ')' => {
                    let commas = open.pop().unwrap_or(0);
                    if character == ']' {
                        shape.union = shape.union.saturating_mul(commas + 1);
                    }
                }
                ',' => {
                    shape.is_plural = true;
                    if let Some(commas) = open.last_mut() {
                        *commas += 1;
                    }
                }
                '?' => {
                    shape.is_plural = true;
                    shape.filters += 1;
                }
                '*' | ':' => shape.is_plural = true,
                '.' if text[at + 1..].starts_with('.') => {
                    shape.is_plural = true;
                    shape.descents += 1;
                }
                '$' if at > 0 && !is_singular(&text[at + 1..]) => shape.inner_roots += 1,
                _ => {}
            }
        }
        if shape.filters > MAX_FILTERS {
            return Err(format!("it has {} filters, at most {MAX_FILTERS} are allowed", shape.filters));
        }
        if shape.union > MAX_UNION {
            return Err(format!(
                "its unions select each value up to {} times, at most {MAX_UNION} are allowed",
                shape.union
            ));
        }
        Ok(shape)
    }

    /// An upper bound of its work on a result of so many values that nest so deep.
    fn cost(&self, bytes: usize, values: u64, depth: u64) -> u64 {
        let power = |base: u64, exponent: usize| base.saturating_pow(u32::try_from(exponent).unwrap_or(u32::MAX));
        let per_value = (1 + bytes as u64 / 16) * self.union;
        values
            .saturating_mul(per_value)
            .saturating_mul(power(depth.max(1), self.descents))
            .saturating_mul(power(values.max(1), self.inner_roots))
    }
}

/// Whether what follows a `$` in a filter can only select one value: names and indexes, until something else than a segment comes.
fn is_singular(mut rest: &str) -> bool {
    loop {
        rest = rest.trim_start();
        if let Some(name) = rest.strip_prefix('.') {
            let ends = |c: char| !(c.is_alphanumeric() || c == '_' || !c.is_ascii());
            let length = name.find(ends).unwrap_or(name.len());
            if length == 0 {
                return false;
            }
            rest = &name[length..];
        } else if let Some(selector) = rest.strip_prefix('[') {
            let mut characters = selector.trim_start().char_indices();
            match characters.next() {
                Some((_, quote @ ('"' | '\''))) => skip_string(&mut characters, quote),
                Some((_, '0'..='9' | '-')) => {}
                _ => return false,
            }
            let after = characters.as_str().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
            match after.strip_prefix(']') {
                Some(after) => rest = after,
                None => return false,
            }
        } else {
            return true;
        }
    }
}

/// Moves past the rest of a string, its closing quote included.
fn skip_string(rest: &mut std::str::CharIndices<'_>, quote: char) {
    while let Some((_, character)) = rest.next() {
        if character == quote {
            return;
        }
        if character == '\\' {
            rest.next();
        }
    }
}

/// How many values a JSON value consists of, and how deep they nest. A parsed result nests 128 levels at most.
fn extent(value: &Value) -> (u64, u64) {
    let of_all = |parts: &mut dyn Iterator<Item = &Value>| {
        let (values, depth) = parts.map(extent).fold((0, 0), |(a, b), (c, d)| (a + c, b.max(d)));
        (values + 1, depth + 1)
    };
    match value {
        Value::Array(items) => of_all(&mut items.iter()),
        Value::Object(members) => of_all(&mut members.values()),
        _ => (1, 1),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Far more than any path should take in a build without optimizations, and far less than one without bounds does.
    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn paths_that_people_write_are_accepted() -> Result<(), PathError> {
        for path in [
            "$",
            "$.body.choices[0].message.content",
            "$['headers']['x-request-id']",
            "$.body.items[*].name",
            "$.body.items[?@.kind == 'a' && @.size > 3].id",
            "$.body.items[?@.tags[?@ == 'x']]",
            "$..id",
            "$.body.items[0,1,2,3,4,5,6,7]",
            "$.body.items[?length(@.name) > 3]",
            "$.body.items[?@.owner == $.body.me].id",
        ] {
            BoundedPath::parse(path)?;
        }
        Ok(())
    }

    #[test]
    fn paths_that_would_keep_a_worker_busy_are_refused_by_their_text() {
        for (path, says) in [
            (format!("$[?{}1==1{}]", "(".repeat(1_000), ")".repeat(1_000)), "bytes"),
            (format!("$[?{}1==1{}]", "(".repeat(100), ")".repeat(100)), "nest deeper"),
            (format!("$.a{}{}", "[?@".repeat(40), "]".repeat(40)), "nest deeper"),
            (format!("$.a{}{}", "[?@".repeat(6), "]".repeat(6)), "6 filters"),
            ("$".to_owned() + &"[0,0,0]".repeat(20), "unions"),
        ] {
            let refused = BoundedPath::parse(&path).map(|_| ());
            assert!(refused.as_ref().is_err_and(|why| why.to_string().contains(says)), "{path}: {refused:?}");
        }
    }

    #[test]
    fn a_path_that_is_too_slow_for_a_result_is_refused_before_it_is_evaluated() {
        let wide = json!((0..20_000).map(|n| json!({"n": n})).collect::<Vec<_>>());
        let deep = (0..120).fold(json!(1), |inner, _| json!([inner, 1, [1, 2, 3]]));
        for (path, result) in
            [("$[?count($[*].n) == @.n]", &wide), ("$..*..*..*..*", &deep), ("$..[?@..[?@..[?@..*]]]", &deep)]
        {
            let begun = Instant::now();
            let found =
                BoundedPath::parse(path).and_then(|path| Searched::new(result).find(&path).map(|all| all.len()));
            assert!(matches!(found, Err(PathError::TooSlow(_))), "{path}: {found:?}");
            assert!(begun.elapsed() < SOON, "{path}");
        }
        for (path, finds) in [("$[*].n", 20_000), ("$[?@.n == $[7].n]", 1), ("$[?$[ 0 ]['n'] == 0]", 20_000)] {
            let path = BoundedPath::parse(path);
            let found = path.as_ref().map(|path| Searched::new(&wide).find(path).map(|all| all.len()));
            assert!(matches!(found, Ok(Ok(count)) if count == finds), "{path:?}: {found:?}");
        }
    }

    proptest! {
        /// Whatever is nested in whatever way: measured, parsed and evaluated in no time, without a panic.
        #[test]
        fn no_path_keeps_a_worker_busy(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "[?", "]", "(", ")", "@", "$", ".a", "..", "[*]", "[0,1]", "&&", "||", "!", "==1", "count(", "length(",
                    ",'a'", "'", "\"", "\\", "[", "*", ":", "?", "value(", "@.b[?", "@[?@",
                ]),
                0..60,
            ),
            repeats in 1..30_usize,
        ) {
            let path = format!("${}", pieces.concat().repeat(repeats));
            let result = json!({"a": [1, {"b": [[1, 2], "x"]}], "b": {"a": {"a": [0]}}});
            let begun = Instant::now();
            if let Ok(path) = BoundedPath::parse(&path) {
                let _found = Searched::new(&result).find(&path);
            }
            prop_assert!(begun.elapsed() < SOON, "{path}");
        }
    }
}
