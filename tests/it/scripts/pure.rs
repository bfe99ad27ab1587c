//! The decisions in `lua/lib` as pure functions: properties that hold for any sequence of events, checked by running them in a real
//! Redis, by a loop written in Lua beside each test. Times are made up, so a failing case fails again, and shrinks.

mod breaker;
mod bucket;
mod definition;
mod fleet;
mod grant;

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use redial_tests::RedisServer;
use serde_json::Value;

/// How many cases each property is tried with.
const CASES: u32 = 200;

/// Checks a property: `input` turns each case into JSON, the Lua `driver` gets that as `input` and returns a table, and `check`
/// compares the two.
fn holds<S: Strategy>(
    cases: &S,
    libs: &[&str],
    driver: &str,
    input: impl Fn(&S::Value) -> Value,
    check: impl Fn(&S::Value, &Value) -> TestCaseResult,
) where
    S::Value: Debug + Clone,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = runtime.block_on(RedisServer::start());
    let connection = runtime.block_on(redis.connection());
    let script = script_of(libs, driver);
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(cases, |case| {
        let mut eval = redis::cmd("EVAL");
        eval.arg(&script).arg(0).arg(input(&case).to_string());
        let mut connection = connection.clone();
        let output: String = runtime.block_on(async { eval.query_async(&mut connection).await.unwrap() });
        check(&case, &serde_json::from_str(&output).unwrap())
    });
    outcome.unwrap();
}

/// A script that runs `driver`, whose functions are those of `libs`, with its argument as `input`, and returns what it returns.
fn script_of(libs: &[&str], driver: &str) -> String {
    let libs = libs.concat();
    format!("{libs}\nlocal function drive(input)\n{driver}\nend\nreturn cjson.encode(drive(cjson.decode(ARGV[1])))")
}

/// The numbers of an array. Lua's empty table is an object in JSON.
fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().map(|all| all.iter().map(|n| n.as_f64().unwrap()).collect()).unwrap_or_default()
}

/// The objects of an array.
fn objects(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
