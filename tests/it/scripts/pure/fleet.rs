//! A whole fleet against one limit, simulated from seeds: see `fleet.lua`.

use redial_tests::RedisServer;
use serde_json::{Value, json};

use super::{objects, script_of};
use crate::promises::at_length;

const LIBS: [&str; 4] = [
    include_str!("../../../../shared/lua/lib/bucket.lua"),
    include_str!("../../../../shared/lua/lib/limit.lua"),
    include_str!("../../../../shared/lua/lib/definition.lua"),
    include_str!("../../../../shared/lua/lib/grant.lua"),
];

/// How many seeds one script plays, some hundred milliseconds.
const BATCH: u32 = 100;

#[tokio::test]
async fn a_simulated_fleet_keeps_its_limit_through_distances_crashes_and_clock_steps() {
    let redis = RedisServer::start().await;
    let mut connection = redis.connection().await;
    let script = script_of(&LIBS, include_str!("fleet.lua"));
    let mut calls = 0;
    for first_seed in (0..at_length(2_000, 10_000)).step_by(BATCH as usize) {
        let input = json!({"first_seed": first_seed, "seeds": BATCH}).to_string();
        let output: String =
            redis::cmd("EVAL").arg(&script).arg(0).arg(input).query_async(&mut connection).await.unwrap();
        let output: Value = serde_json::from_str(&output).unwrap();
        let failures = objects(&output["failures"]);
        assert!(failures.is_empty(), "{failures:?}");
        calls += output["calls"].as_u64().unwrap();
    }
    assert!(calls > at_length(50_000, 250_000), "only {calls} calls were made: the simulation simulates nothing");
}
