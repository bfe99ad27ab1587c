//! lib/breaker.lua: any sequence of reports and requests, with time passing between them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{holds, objects};

const LIBS: [&str; 1] = [include_str!("../../../../shared/lua/lib/breaker.lua")];

const MIN_CALLS: u32 = 20;
const PROBE_INTERVAL_MS: f64 = 5_000.0;
const RETRY_RATIO: f64 = 0.2;
const RETRIES_PER_S: f64 = 10.0;

/// Returns for each event: the breaker after it, and each decision with the state in which it was made.
const DRIVER: &str = "
  local breaker, now, records = {state = 'closed'}, 1.8e12, {}
  for _, field in ipairs(BREAKER_FIELDS) do breaker[field] = 0 end
  for _, event in ipairs(input.events) do
    now = now + event.after_ms
    local tokens_before = breaker.retry_tokens
    advance(breaker, input.config, now)
    local tokens_after_time = breaker.retry_tokens
    event.report.epoch = breaker.epoch - event.report.epochs_ago
    record(breaker, input.config, now, event.report)
    advance_step(breaker, now)
    local decisions = {}
    for _, request in ipairs(event.requests) do
      local state = breaker.state
      local admit, retry_in, is_free = decide(breaker, input.config, now, request)
      decisions[#decisions + 1] = {
        request = request, state = state, admit = admit == 'last' and 1 or admit, retry_in = retry_in, is_probe = is_free,
      }
    end
    records[#records + 1] = {
      now = now - 1.8e12, state = breaker.state, epoch = breaker.epoch, step_limit = breaker.step_limit,
      step_admitted = breaker.step_admitted, step_ends_at = breaker.step_ends_at - 1.8e12, decisions = decisions,
      tokens_before = tokens_before, tokens_after_time = tokens_after_time,
    }
  end
  return records";

/// Time before it in ms; good, bad, trailing, any good, how many epochs ago; the requests.
type Event = (i64, (u32, u32, u32, bool, u8), Vec<&'static str>);

fn events(after_ms: impl Strategy<Value = i64>) -> impl Strategy<Value = Vec<Event>> {
    let nothing = Just((0, 0, 0, false, 0));
    let down = (0_u32..5, 0_u32..40).prop_map(|(stale, bad)| (0, bad, bad, false, u8::from(stale == 0)));
    let mixed = (0_u32..20, 0_u32..20, 0_u32..5, any::<bool>(), 0_u8..2);
    let report = prop_oneof![2 => nothing, 2 => down, 1 => mixed];
    let request = prop_oneof![
        3 => Just("first"),
        2 => Just("retry"),
        1 => Just("reserved_retry"),
        1 => Just("wait_list 0"),
        1 => Just("wait_list 30"),
    ];
    prop::collection::vec((after_ms, report, prop::collection::vec(request, 0..25)), 1..60)
}

fn passing() -> impl Strategy<Value = i64> {
    prop_oneof![0_i64..100, 0_i64..1_000, 0_i64..20_000]
}

fn input(events: &[Event]) -> Value {
    let event = |(after_ms, (good, bad, trailing, any_good, epochs_ago), requests): &Event| {
        let report =
            json!({"good": good, "bad": bad, "trailing": trailing, "any_good": any_good, "epochs_ago": epochs_ago});
        json!({"after_ms": after_ms, "report": report, "requests": requests})
    };
    json!({
        "config": {
            "min_calls": MIN_CALLS,
            "failure_ratio": 0.8,
            "probe_interval_ms": PROBE_INTERVAL_MS,
            "retry_ratio": RETRY_RATIO,
            "retries_per_s": RETRIES_PER_S,
        },
        "events": events.iter().map(event).collect::<Vec<_>>(),
    })
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Every decision about a call, not about a wait list: the record it is in, and the decision.
fn calls<'a>(output: &'a Value) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    let of_record = |record: &'a Value| objects(&record["decisions"]).iter().map(move |decision| (record, decision));
    let is_call = |(_, decision): &(&Value, &Value)| !decision["request"].as_str().unwrap().starts_with("wait_list");
    objects(output).iter().flat_map(of_record).filter(is_call)
}

#[test]
fn an_open_breaker_admits_one_call_per_probe_interval() {
    holds(
        &events(passing()),
        &LIBS,
        DRIVER,
        |events| input(events),
        |_, output| {
            let mut last: Option<(f64, &Value)> = None;
            for (record, decision) in calls(output).filter(|(_, decision)| decision["state"] == "open") {
                let (now, epoch) = (number(&record["now"]), &record["epoch"]);
                if number(&decision["admit"]) == 0.0 {
                    prop_assert!(number(&decision["retry_in"]) > 0.0);
                    continue;
                }
                if let Some((before, same)) = last
                    && same == epoch
                {
                    prop_assert!(now - before >= PROBE_INTERVAL_MS, "probes at {before} and {now}");
                }
                last = Some((now, epoch));
            }
            Ok(())
        },
    );
}

#[test]
fn a_half_open_breaker_at_most_doubles_what_it_admits_from_step_to_step() {
    holds(
        &events(passing()),
        &LIBS,
        DRIVER,
        |events| input(events),
        |_, output| {
            let mut steps: Vec<(&Value, &Value, f64)> = Vec::new(); // Epoch, end and admissions of each step.
            for record in objects(output).iter().filter(|record| record["state"] == "half_open") {
                let (epoch, ends) = (&record["epoch"], &record["step_ends_at"]);
                let admitted = number(&record["step_admitted"]);
                prop_assert!(admitted <= number(&record["step_limit"]));
                match steps.last_mut() {
                    Some(step) if (step.0, step.1) == (epoch, ends) => step.2 = admitted,
                    _ => steps.push((epoch, ends, admitted)),
                }
            }
            let mut most = 10.0_f64;
            for pair in steps.windows(2) {
                most = if pair[0].0 == pair[1].0 { most.max(2.0 * pair[0].2) } else { 10.0 };
                prop_assert!(pair[1].2 <= most, "{steps:?}");
            }
            Ok(())
        },
    );
}

#[test]
fn a_closed_breaker_admits_all_first_calls_and_retries_within_the_budget() {
    holds(
        &events(passing()),
        &LIBS,
        DRIVER,
        |events| input(events),
        |events, output| {
            let mut retries = 0.0;
            let mut elapsed_ms = 0.0;
            for (record, decision) in calls(output).filter(|(_, decision)| decision["state"] == "closed") {
                elapsed_ms = number(&record["now"]);
                if decision["request"] == "first" {
                    prop_assert_eq!(decision["admit"].as_u64(), Some(1));
                } else {
                    retries += number(&decision["admit"]);
                }
            }
            let reported: u32 = events.iter().map(|(_, report, _)| report.0 + report.1).sum();
            let budget = RETRIES_PER_S * (1.0 + elapsed_ms / 1_000.0) + RETRY_RATIO * f64::from(reported);
            prop_assert!(retries <= budget, "{retries} of {budget}");
            Ok(())
        },
    );
}

#[test]
fn a_clock_that_is_set_back_refills_no_retry_budget_and_prolongs_no_outage() {
    let after_ms = prop_oneof![2 => passing(), 1 => -3_600_000_i64..0];
    holds(
        &events(after_ms),
        &LIBS,
        DRIVER,
        |events| input(events),
        |events, output| {
            let records = objects(output);
            for (n, ((after_ms, ..), record)) in events.iter().zip(records).enumerate() {
                if n > 0 && *after_ms <= 0 {
                    prop_assert!(number(&record["tokens_after_time"]) <= number(&record["tokens_before"]));
                }
                for decision in objects(&record["decisions"]).iter().filter(|decision| decision["state"] == "open") {
                    prop_assert!(number(&decision["retry_in"]) <= 12.0 * PROBE_INTERVAL_MS);
                }
            }
            Ok(())
        },
    );
}
