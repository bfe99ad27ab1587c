//! lib/grant.lua: grants for moments ahead, in whatever order they are asked for.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{holds, objects};

const LIBS: [&str; 3] = [
    include_str!("../../../../shared/lua/lib/bucket.lua"),
    include_str!("../../../../shared/lua/lib/limit.lua"),
    include_str!("../../../../shared/lua/lib/grant.lua"),
];

/// Plays callers at all distances against a limit. A grant is used at its moment, or given back, at once or after a while, with a new
/// question or without one. Returns the moments that were used, and the most slots that were in use.
const DRIVER: &str = "
  local base, used, most_slots, now = 1.8e15, {}, 0, 1.8e15
  local state = {
    limit = parse_definition(input.definition), full_at = 0, closed_until = 0, marks = {}, window_us = input.window_us,
    slots = {count = 0, held = {}, taken = {}},
  }
  local unused = {}
  for n, call in ipairs(input.calls) do
    now = now + call.gap
    state.now, state.lead_us, state.is_waiting = now, call.lead, false
    for at = #unused, 1, -1 do
      local grant = unused[at]
      if grant.until_at <= now then
        state.full_at = give_back(state.marks, state.full_at, grant.at, refill_time(state.limit, grant.cost))
        table.remove(unused, at)
      end
    end
    local request = {cost = call.cost, token = 't' .. n, has_priority = true, delay_us = 0}
    local grant = decide(state, request)
    if grant[1] == 'granted' and call.is_late then
      -- Its worker was too slow, and asks for another moment.
      request.returned_at, request.delay_us = tonumber(grant[2]), call.lead + 30000
      grant = decide(state, request)
    end
    if grant[1] == 'granted' then
      local at = tonumber(grant[2])
      if at > 0 and at < now + call.lead then error('before it can be used') end
      if call.keep_us < 0 then
        used[#used + 1] = {at = at - base, cost = call.cost}
      else
        unused[#unused + 1] = {at = at, cost = call.cost, until_at = now + call.keep_us}
      end
      most_slots = math.max(most_slots, state.slots.count)
      if n % 3 == 0 and state.limit.slots then state.slots.count, state.slots.held[request.token] = state.slots.count - 1, nil end
    end
  end
  return {used = used, most_slots = most_slots}";

/// The time since the last one asked, the distance, what it costs, whether it is late at first, and how long until the grant is given
/// back (negative if it is used).
type Caller = (u32, u32, u8, bool, i32);

fn callers() -> impl Strategy<Value = Vec<Caller>> {
    let gap = prop_oneof![Just(0), 0_u32..20_000, 0_u32..900_000];
    let kept = prop_oneof![3 => Just(-1), 1 => 0_i32..2_000_000];
    prop::collection::vec((gap, 0_u32..600_000, 1_u8..4, any::<bool>(), kept), 1..80)
}

fn input(definition: &str, calls: &[Caller]) -> Value {
    let call = |(gap, lead, cost, is_late, keep_us): &Caller| json!({"gap": gap, "lead": lead, "cost": cost, "is_late": is_late, "keep_us": keep_us});
    json!({"definition": definition, "window_us": 500_000, "calls": calls.iter().map(call).collect::<Vec<_>>()})
}

#[test]
fn in_whatever_order_moments_are_granted_and_given_back_no_window_has_more_than_burst_and_rate() {
    holds(
        &(1_u32..200, 4_u32..20, callers()),
        &LIBS,
        DRIVER,
        |(rate, burst, calls)| input(&format!("{rate} 1000 {burst} -"), calls),
        |(rate, burst, _), output| {
            let mut used: Vec<(f64, f64)> = objects(&output["used"])
                .iter()
                .map(|one| (one["at"].as_f64().unwrap(), one["cost"].as_f64().unwrap()))
                .collect();
            used.sort_by(|a, b| a.0.total_cmp(&b.0));
            for first in 0..used.len() {
                let mut sum = 0.0;
                for (at, cost) in &used[first..] {
                    sum += cost;
                    let most = f64::from(*burst) + f64::from(*rate) * (at - used[first].0) / 1e6;
                    prop_assert!(sum <= most + 1e-6, "{sum} of {most} from {} to {at}", used[first].0);
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_backlog_that_is_asked_for_in_time_uses_all_of_the_rate() {
    // Always the next one, from a distance, as soon as the window allows.
    holds(
        &(1_u32..500, 1_u32..10, 0_u32..400_000),
        &LIBS,
        "local state = {
          limit = parse_definition(input.definition), now = 1.8e15, full_at = 0, closed_until = 0, marks = {},
          lead_us = input.lead, window_us = 100000, slots = {count = 0, held = {}, taken = {}},
        }
        local first, last
        for _ = 1, 200 do
          local grant = decide(state, {cost = 1, token = 't', has_priority = true, delay_us = 0})
          while grant[1] == 'waiting' do
            state.now = state.now + grant[2] - input.lead
            grant = decide(state, {cost = 1, token = 't', has_priority = true, delay_us = 0})
          end
          first, last = first or tonumber(grant[2]), tonumber(grant[2])
        end
        return {span = last - first}",
        |(rate, burst, lead)| json!({"definition": format!("{rate} 1000 {burst} -"), "lead": lead}),
        |(rate, burst, _), output| {
            let least = f64::from(200 - burst) * 1e6 / f64::from(*rate);
            let span = output["span"].as_f64().unwrap();
            prop_assert!((least - 1.0..least + 200.0).contains(&span), "{span} us for what takes {least}");
            Ok(())
        },
    );
}

#[test]
fn no_more_calls_are_in_flight_than_there_are_slots() {
    holds(
        &(1_u32..6, callers()),
        &LIBS,
        DRIVER,
        |(slots, calls)| input(&format!("- 1000 - {slots}"), calls),
        |(slots, _), output| {
            prop_assert!(output["most_slots"].as_f64().unwrap() <= f64::from(*slots));
            Ok(())
        },
    );
}
