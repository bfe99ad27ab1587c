//! Every target with its corpus, and then with random changes to it. `libfuzzer/` looks further, guided by what the code does.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue should stop with a message")]

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use redial_fuzz::run;

/// How long a target is tried, its corpus included.
const TIME: Duration = Duration::from_secs(20);
/// How many cases run before the clock is looked at.
const BATCH: u32 = 64;
/// The variable that repeats a run: the seed that it printed.
const SEED: &str = "REDIAL_FUZZ_SEED";

/// Words of the formats, which single bytes would rarely form.
const WORDS: [&str; 40] = [
    "\r\n",
    "\r\n\r\n",
    "{{",
    "}}",
    "$.",
    "$..*",
    "[?(@.a==1)]",
    "{}",
    "[]",
    "null",
    "\"",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{202e}",
    "url",
    "body",
    "headers",
    "then",
    "parts",
    "limit",
    "callback_url",
    "http://h/",
    "1e308",
    "-1",
    "18446744073709551616",
    "0.1",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: ",
    "Content-Encoding: gzip\r\n",
    "Retry-After: ",
    "Wed, 21 Oct 2099 07:28:00 GMT",
    "PT1M",
    "6m0s",
    "x-ratelimit-reset-requests",
    "custom_id",
    "{{a?}}",
    ",",
];

/// A change to some bytes, at places that are fractions of them.
#[derive(Debug, Clone)]
enum Edit {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), select(&WORDS[..])).prop_map(|(at, word)| Edit::Insert(at, word.into())),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Remove(from, to)),
        (any::<Index>(), any::<Index>(), 2..40_u8).prop_map(|(from, to, times)| Edit::Repeat(from, to, times)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: Edit) {
    /// So that repetitions of repetitions end.
    const MAX_BYTES: usize = 64 << 10;
    let ends = bytes.len() + 1;
    match edit {
        Edit::Replace(at, byte) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        Edit::Replace(_, byte) => bytes.push(byte),
        Edit::Insert(at, inserted) => {
            let at = at.index(ends);
            bytes.splice(at..at, inserted);
        }
        Edit::Remove(from, to) => drop(bytes.drain(between(from, to, ends))),
        Edit::Repeat(from, to, times) => {
            let range = between(from, to, ends);
            let repeated = bytes[range.clone()].repeat(times.into());
            bytes.splice(range, repeated);
            bytes.truncate(MAX_BYTES);
        }
    }
}

fn between(from: Index, to: Index, ends: usize) -> std::ops::Range<usize> {
    let (from, to) = (from.index(ends), to.index(ends));
    from.min(to)..from.max(to)
}

/// An input, which is shown as text.
#[derive(Clone)]
struct Input(Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// An input of the corpus with some changes, or the beginning of one and the end of another.
fn inputs(corpus: &[Vec<u8>]) -> impl Strategy<Value = Input> + use<> {
    let one = select(corpus.to_vec());
    let crossed = (select(corpus.to_vec()), select(corpus.to_vec()), any::<Index>(), any::<Index>()).prop_map(
        |(begin, end, upto, from)| {
            let (upto, from) = (upto.index(begin.len() + 1), from.index(end.len() + 1));
            [&begin[..upto], &end[from..]].concat()
        },
    );
    let changed = |(mut bytes, edits): (Vec<u8>, Vec<Edit>)| {
        for edit in edits {
            apply(&mut bytes, edit);
        }
        Input(bytes)
    };
    (prop_oneof![4 => one, 1 => crossed], prop::collection::vec(edit(), 0..6)).prop_map(changed)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The seed of this run: another one each time, unless the environment names it.
fn seed() -> u64 {
    match std::env::var(SEED) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{SEED} is a number: {error}")),
        Err(_) => rand::random(),
    }
}

fn try_target(name: &str) {
    let started = Instant::now();
    let corpus = corpus(name);
    assert!(corpus.len() >= 24, "the corpus of {name} has {} inputs", corpus.len());
    for input in &corpus {
        run(name, input);
    }
    let seed = seed();
    // Shown if the test fails.
    eprintln!("{SEED}={seed} cargo test --workspace --test stable -- {name}");
    let config = Config { cases: BATCH, failure_persistence: None, max_shrink_time: 20_000, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed.to_le_bytes().repeat(4)));
    let strategy = inputs(&corpus);
    let mut batches = 0;
    while started.elapsed() < TIME {
        let tried = runner.run(&strategy, |input| {
            run(name, &input.0);
            Ok(())
        });
        tried.unwrap_or_else(|error| panic!("{name}: {error}"));
        batches += 1;
    }
    eprintln!("{name}: {} inputs and {} changed ones", corpus.len(), batches * BATCH);
}

#[test]
fn task() {
    try_target("task");
}

#[test]
fn entry() {
    try_target("entry");
}

#[test]
fn template() {
    try_target("template");
}

#[test]
fn headers() {
    try_target("headers");
}

#[test]
fn retry_after() {
    try_target("retry_after");
}

#[test]
fn rate_headers() {
    try_target("rate_headers");
}

#[test]
fn batch() {
    try_target("batch");
}

#[test]
fn answers() {
    try_target("answers");
}
