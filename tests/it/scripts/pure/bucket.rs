//! lib/bucket.lua and the clock of lib/limit.lua.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::json;

use super::{holds, numbers};

const LIBS: [&str; 2] =
    [include_str!("../../../../shared/lua/lib/bucket.lua"), include_str!("../../../../shared/lua/lib/limit.lua")];

/// Rate per period, the period in us, burst.
fn limits() -> impl Strategy<Value = (f64, f64, f64)> {
    (prop_oneof![0.1..10.0, 10.0..5_000.0], prop_oneof![Just(1e6), Just(60e6), 1e3..1e7], 1.0..50.0)
}

/// At most `burst + rate * t` is taken in any window. Rounding errs on the side of less; only the comparison itself is inexact.
fn never_over(limit: (f64, f64, f64), taken: &[(f64, f64)]) -> TestCaseResult {
    let (rate, per_us, burst) = limit;
    for first in 0..taken.len() {
        let mut sum = 0.0;
        for (at, cost) in &taken[first..] {
            sum += cost;
            let most = burst + rate * (at - taken[first].0) / per_us;
            prop_assert!(sum <= most * (1.0 + 1e-9), "{sum} of {most} from {} to {at}", taken[first].0);
        }
    }
    Ok(())
}

#[test]
fn a_bucket_never_admits_more_than_its_burst_and_rate_in_any_window() {
    // Gaps between requests in us, and costs as shares of the burst. Some requests take what they can get now, others book ahead.
    let requests = prop::collection::vec((0_u32..2_000_000, 0.01..1.0, any::<bool>()), 1..60);
    holds(
        &(limits(), requests),
        &LIBS,
        "local limit, now, base, full_at, taken = input.limit, 1.8e15, 1.8e15, 0, {}
        for _, request in ipairs(input.requests) do
          now = now + request.gap
          local at = earliest(limit, full_at, now, request.cost)
          if at == now or request.books then
            full_at = full_at_after(limit, full_at, at, request.cost)
            taken[#taken + 1] = at - base
            taken[#taken + 1] = request.cost
          end
        end
        return taken",
        |((rate, per_us, burst), requests)| {
            let request =
                |(gap, share, books): &(u32, f64, bool)| json!({"gap": gap, "cost": share * burst, "books": books});
            json!({
                "limit": {"rate": rate, "per_us": per_us, "burst": burst},
                "requests": requests.iter().map(request).collect::<Vec<_>>(),
            })
        },
        |(limit, _), taken| {
            let taken: Vec<_> = numbers(taken).chunks(2).map(|pair| (pair[0], pair[1])).collect();
            never_over(*limit, &taken)
        },
    );
}

#[test]
fn a_clock_that_is_set_back_never_refills_a_bucket_and_holds_no_one_up() {
    let steps = prop::collection::vec(prop_oneof![0_i64..1_000_000, -4_000_000_000_i64..0], 1..40);
    holds(
        &steps,
        &LIBS,
        "local redis_now, base, last_now, skew, advanced = 1.8e15, 1.8e15, nil, nil, {}
        last_now, skew = monotonic(redis_now, last_now, skew)
        for _, step in ipairs(input) do
          redis_now = redis_now + step
          local now
          now, skew = monotonic(redis_now, to_text(last_now), to_text(skew))
          advanced[#advanced + 1] = now - last_now
          last_now = now
        end
        return advanced",
        |steps| json!(steps),
        |steps, advanced| {
            #[expect(clippy::cast_precision_loss, reason = "an hour in microseconds")]
            let expected: Vec<f64> = steps.iter().map(|step| (*step).max(0) as f64).collect();
            prop_assert_eq!(numbers(advanced), expected);
            Ok(())
        },
    );
}
