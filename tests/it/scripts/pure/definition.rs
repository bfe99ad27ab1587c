//! lib/definition.lua: any sequence of definitions, with calls between them.

use proptest::prelude::*;
use serde_json::json;

use super::{holds, numbers};

const LIBS: [&str; 3] = [
    include_str!("../../../../shared/lua/lib/bucket.lua"),
    include_str!("../../../../shared/lua/lib/limit.lua"),
    include_str!("../../../../shared/lua/lib/definition.lua"),
];

/// Rate per second and burst.
fn limits() -> impl Strategy<Value = (f64, f64)> {
    (prop_oneof![0.1..10.0, 10.0..5_000.0], 1.0..50.0)
}

#[test]
fn what_is_left_is_carried_over_as_far_as_the_new_burst_allows() {
    holds(
        &(limits(), limits(), 0.0..100.0),
        &LIBS,
        "local now = 1.8e15
        local full_at = full_at_after(input.old, 0, now, input.taken)
        return {tokens_left(input.new, carry_level(input.new, input.old, full_at, {}, now), now)}",
        |(old, new, taken)| {
            let limit = |(rate, burst): &(f64, f64)| json!({"rate": rate, "per_us": 1e6, "burst": burst});
            json!({"old": limit(old), "new": limit(new), "taken": taken})
        },
        |(old, new, taken), output| {
            let left = numbers(output)[0];
            let expected = f64::min(old.1 - taken, new.1);
            // Both conversions round up to a quarter of a microsecond.
            let rounding = 0.25e-6 * (old.0 + new.0) + 1e-9 * (taken + old.1 + new.1);
            prop_assert!((expected - rounding..=expected + 1e-6).contains(&left), "{left} instead of {expected}");
            Ok(())
        },
    );
}

#[test]
fn definitions_in_turn_never_admit_more_than_the_more_generous_one() {
    let steps = prop::collection::vec((any::<bool>(), 0_u32..500_000, 0.1..3.0), 1..80);
    holds(
        &(limits(), limits(), steps),
        &LIBS,
        "local now, base, full_at, taken, current = 1.8e15, 1.8e15, 0, {}, input.limits[1]
        for _, step in ipairs(input.steps) do
          now = now + step.gap
          local limit = input.limits[step.which]
          full_at, current = carry_level(limit, current, full_at, {}, now), limit
          if step.cost <= limit.burst and earliest(limit, full_at, now, step.cost) == now then
            full_at = full_at_after(limit, full_at, now, step.cost)
            taken[#taken + 1] = now - base
            taken[#taken + 1] = step.cost
          end
        end
        return taken",
        |(a, b, steps)| {
            let limit = |(rate, burst): &(f64, f64)| json!({"rate": rate, "per_us": 1e6, "burst": burst});
            let steps = steps
                .iter()
                .map(|(first, gap, cost)| json!({"which": if *first { 1 } else { 2 }, "gap": gap, "cost": cost}));
            json!({"limits": [limit(a), limit(b)], "steps": steps.collect::<Vec<_>>()})
        },
        |(a, b, _), taken| {
            let taken: Vec<_> = numbers(taken).chunks(2).map(|pair| (pair[0], pair[1])).collect();
            let (rate, burst) = (a.0.max(b.0), a.1.max(b.1));
            for first in 0..taken.len() {
                let mut sum = 0.0;
                for (at, cost) in &taken[first..] {
                    sum += cost;
                    let most = burst + rate * (at - taken[first].0) / 1e6;
                    prop_assert!(sum <= most * (1.0 + 1e-9) + 1e-6, "{sum} of {most}");
                }
            }
            Ok(())
        },
    );
}

#[test]
fn of_two_workers_the_one_that_was_configured_last_counts_whoever_states_it_when() {
    // Which of three workers states its configuration, after how many seconds.
    let steps = prop::collection::vec((0_usize..3, 0_u32..100), 1..60);
    holds(
        &steps,
        &LIBS,
        "local now, definitions, in_force = 1.8e15, {}, {}
        for _, step in ipairs(input) do
          now = now + step.gap * 1e6
          state_definition(definitions, 'config', step.worker .. ' 1000 1 -', tostring(step.worker), now)
          local _, text = definition_in_force(definitions, now)
          in_force[#in_force + 1] = tonumber(string.match(text, '^%d+'))
        end
        return in_force",
        |steps| {
            let steps = steps.iter().map(|(worker, gap)| json!({"worker": worker + 1, "gap": gap}));
            json!(steps.collect::<Vec<_>>())
        },
        |steps, in_force| {
            let in_force = numbers(in_force);
            let (mut now, mut last_seen, mut before) = (0, [None::<u32>; 3], 0);
            for ((worker, gap), counts) in steps.iter().zip(in_force) {
                now += gap;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 1 to 3
                let counts = counts as usize - 1;
                prop_assert!(counts >= *worker, "{worker} was configured after {counts}, and still there at {now}");
                // An older worker takes over only when no worker has stated the newer configuration for a while.
                let was_seen = last_seen[before];
                prop_assert!(
                    counts >= before || was_seen.is_some_and(|at| now - at >= 45),
                    "{counts} at {now}: {last_seen:?}"
                );
                last_seen[*worker] = Some(now);
                prop_assert!(last_seen[counts].is_some_and(|at| now - at <= 60), "{counts} at {now}: {last_seen:?}");
                before = counts;
            }
            Ok(())
        },
    );
}
