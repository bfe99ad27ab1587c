//! lib/booking.lua: callers that ask, wait for the time they were given, and ask again, until all are admitted.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{holds, numbers, objects};

const LIBS: [&str; 4] = [
    include_str!("../../../../shared/lua/lib/bucket.lua"),
    include_str!("../../../../shared/lua/lib/limit.lua"),
    include_str!("../../../../shared/lua/lib/budget.lua"),
    include_str!("../../../../shared/lua/lib/booking.lua"),
];

/// Plays callers against a limit: each call asks at its time, and again at the time that it is given, the first time too late by
/// `late`. Returns each admission with its time in us from the start, and the most slots that were in use.
const DRIVER: &str = "
  local base, pending, admissions, most_slots = 1.8e15, {}, {}, 0
  local state = {
    limit = parse_definition(input.definition), full_at = 0, closed_until = 0, last_full_at = 0, avg_call_us = 100000,
    next_slot_at = 0, hold_us = 50000,
    reserved = {last = {}}, queued = {last = {}}, slots = {count = 0, held = {}, taken = {}},
  }
  local function trim(turns, now)
    turns.count, turns.changed = 0, {}
    for key, last in pairs(turns.last) do
      if last <= now then turns.last[key] = nil else turns.count = turns.count + 1 end
    end
  end
  for n, call in ipairs(input.calls) do
    pending[n] = {at = base + call.at, late = call.late, took = call.took, fairness_key = call.key, cost = call.cost,
      reservation = 0, token = 't' .. n}
  end
  local release_at = {}
  for _ = 1, input.most_events do
    local first
    for n, call in pairs(pending) do
      if not first or call.at < pending[first].at or call.at == pending[first].at and n < first then first = n end
    end
    if not first then break end
    local call = pending[first]
    local now = call.at
    if now - base > input.until_us then break end
    for token, at in pairs(release_at) do
      if at <= now then
        state.slots.count, state.slots.held[token], release_at[token] = state.slots.count - 1, nil, nil
      end
    end
    state.now = now
    trim(state.reserved, now)
    trim(state.queued, now)
    local grant = decide(state, call)
    if grant[1] == 'admitted' then
      admissions[#admissions + 1] = {key = call.fairness_key, at = tonumber(grant[4]) - base, cost = call.cost}
      if grant[3] == 1 then release_at[call.token] = now + call.took end
      most_slots = math.max(most_slots, state.slots.count)
      pending[first] = nil
    else
      call.reservation = grant[3]
      call.at, call.late = now + grant[2] + call.late, 0
    end
  end
  return {admissions = admissions, most_slots = most_slots}";

/// When it first asks, how late it comes, how long it takes, all in us; its fairness key, its cost.
type Caller = (u32, u32, u32, u8, u8);

fn callers(late: impl Strategy<Value = u32>, most: usize) -> impl Strategy<Value = Vec<Caller>> {
    prop::collection::vec((0_u32..3_000_000, late, 1_000_u32..400_000, 0_u8..4, 1_u8..4), 1..most)
}

fn input(definition: &str, calls: &[Caller], until_us: f64) -> Value {
    let call = |(at, late, took, key, cost): &Caller| json!({"at": at, "late": late, "took": took, "key": format!("k{key}"), "cost": cost});
    json!({
        "definition": definition,
        "calls": calls.iter().map(call).collect::<Vec<_>>(),
        "until_us": until_us,
        "most_events": 20_000,
    })
}

fn admissions(output: &Value) -> Vec<(f64, f64)> {
    let mut all: Vec<_> = objects(&output["admissions"])
        .iter()
        .map(|one| (one["at"].as_f64().unwrap(), one["cost"].as_f64().unwrap()))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

#[test]
fn whatever_was_reserved_and_however_late_callers_come_no_window_sees_more_than_burst_and_rate() {
    let late = prop_oneof![Just(0), 0_u32..30_000, 0_u32..4_000_000];
    holds(
        &(1_u32..200, 4_u32..20, callers(late, 60)),
        &LIBS,
        DRIVER,
        |(rate, burst, calls)| input(&format!("{rate} 1000 {burst} -"), calls, 1e12),
        |(rate, burst, calls), output| {
            let taken = admissions(output);
            prop_assert_eq!(taken.len(), calls.len(), "every call is admitted in the end");
            for first in 0..taken.len() {
                let mut sum = 0.0;
                for (at, cost) in &taken[first..] {
                    sum += cost;
                    let most = f64::from(*burst) + f64::from(*rate) * (at - taken[first].0) / 1e6;
                    prop_assert!(sum <= most + 1e-6, "{sum} of {most} from {} to {at}", taken[first].0);
                }
            }
            Ok(())
        },
    );
}

#[test]
fn reservations_of_competing_fairness_keys_get_equal_shares() {
    // After each key has asked once, they ask in any order: the times of each are `keys / rate` apart, whoever asks how often.
    let cases = (1_u32..500, 2_usize..6)
        .prop_flat_map(|(rate, keys)| (Just(rate), Just(keys), prop::collection::vec(0..keys, 1..80)));
    holds(
        &cases,
        &LIBS,
        "local state = {
          limit = parse_definition(input.definition), now = 1.8e15, full_at = 0, closed_until = 0, last_full_at = 0,
          avg_call_us = 100000, next_slot_at = 0, hold_us = 50000,
          reserved = {count = 0, last = {}, changed = {}}, queued = {count = 0, last = {}, changed = {}},
          slots = {count = 0, held = {}, taken = {}},
        }
        local waits = {}
        for _, key in ipairs(input.keys) do
          local grant = decide(state, {fairness_key = 'k' .. key, cost = 1, reservation = 0, token = 't'})
          waits[#waits + 1] = grant[2]
        end
        return waits",
        |(rate, keys, order)| {
            let order: Vec<usize> = (0..*keys).chain(order.iter().copied()).collect();
            json!({"definition": format!("{rate} 1000 1 -"), "keys": order})
        },
        |(rate, keys, order), waits| {
            let share_us = 1e6 * f64::from(u32::try_from(*keys).unwrap()) / f64::from(*rate);
            let waits = numbers(waits).split_off(*keys);
            for key in 0..*keys {
                let of_key: Vec<f64> =
                    order.iter().zip(&waits).filter(|(asks, _)| **asks == key).map(|(_, wait)| *wait).collect();
                for pair in of_key.windows(2) {
                    // A burst of 1 is due at once; short waits are waited out by the worker. Times are rounded up.
                    let gap = pair[1] - pair[0];
                    prop_assert!((gap - share_us).abs() <= 3.0, "{gap} us apart, not {share_us}: {of_key:?}");
                }
            }
            Ok(())
        },
    );
}

#[test]
fn no_more_calls_are_in_flight_than_there_are_slots() {
    holds(
        &(1_u32..6, callers(0_u32..30_000, 40)),
        &LIBS,
        DRIVER,
        |(slots, calls)| input(&format!("- 1000 - {slots}"), calls, 1e12),
        |(slots, calls), output| {
            prop_assert!(output["most_slots"].as_f64().unwrap() <= f64::from(*slots));
            prop_assert_eq!(objects(&output["admissions"]).len(), calls.len(), "every call is admitted in the end");
            Ok(())
        },
    );
}
