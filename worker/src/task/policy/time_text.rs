//! When to call again, in every spelling that upstreams use. Pure: the time is an argument.
//!
//! Numbers; durations as Go writes them (`6m0s`), by ISO 8601 (`PT1M30S`), or in words (`6 seconds`); dates of HTTP (RFC 9110 §5.6.7: all
//! three forms, and zones other than GMT), and of RFC 3339.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redial_core::UnixMs;

use crate::http::presets::TimeUnit;

/// The numbers that are Unix times, in seconds and in milliseconds: from the year 2001 to 5138. As a wait, each is longer than a year.
const EPOCH_SECONDS: std::ops::Range<f64> = 1e9..1e11;
const EPOCH_MS: std::ops::Range<f64> = 1e12..1e14;

/// How many seconds after `now` a text says; negative if it names a time that has passed, `None` if it cannot be understood.
pub fn seconds_until(text: &str, unit: TimeUnit, now: UnixMs) -> Option<f64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return (number.is_finite() && number >= 0.0).then(|| number_until(number, unit, now));
    }
    go_duration(text).or_else(|| iso_duration(text)).or_else(|| {
        let at_ms = http_date(text).or_else(|| rfc3339(text))?;
        Some((at_ms - now_ms(now)) / 1e3)
    })
}

/// A wait of that many seconds, in whole milliseconds, rounded up: the call must not be early.
pub fn wait(seconds: f64) -> Duration {
    // The conversion saturates. What is due to the arithmetic is not rounded up.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Duration::from_millis((seconds * 1e3 - 1e-3).ceil() as u64)
}

/// The wait, in seconds, at the beginning of a text for people: `6s.`, `6 seconds`, `10h17m5.7s.`.
pub fn leading_wait(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', ':', '!', ')']));
    let first = words.next()?;
    if let Some(seconds) = go_duration(first) {
        return Some(seconds);
    }
    let number = first.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)?;
    let unit = match words.next()?.to_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "day" | "days" => 86_400.0,
        _ => return None,
    };
    Some(number * unit)
}

#[expect(clippy::cast_precision_loss)] // exact until the year 287396
fn now_ms(now: UnixMs) -> f64 {
    now.0 as f64
}

fn number_until(number: f64, unit: TimeUnit, now: UnixMs) -> f64 {
    match unit {
        TimeUnit::Ms => number / 1e3,
        TimeUnit::EpochS => (number * 1e3 - now_ms(now)) / 1e3,
        TimeUnit::EpochMs => (number - now_ms(now)) / 1e3,
        TimeUnit::Auto if EPOCH_SECONDS.contains(&number) => number_until(number, TimeUnit::EpochS, now),
        TimeUnit::Auto if EPOCH_MS.contains(&number) => number_until(number, TimeUnit::EpochMs, now),
        TimeUnit::S | TimeUnit::Auto => number,
    }
}

/// A duration in Go's notation, in seconds: numbers with units, fractions allowed, as in `1m2.5s`.
fn go_duration(text: &str) -> Option<f64> {
    quantities(text, |unit| {
        Some(match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        })
    })
}

/// A duration by ISO 8601 without years and months, in seconds: `PT1M30S`, `P1DT2H`, `P1W`.
fn iso_duration(text: &str) -> Option<f64> {
    let upper = text.to_ascii_uppercase();
    let (date, time) = match upper.strip_prefix('P')?.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (&upper[1..], None),
    };
    let days = quantities(date, |unit| match unit {
        "W" => Some(604_800.0),
        "D" => Some(86_400.0),
        _ => None,
    });
    let time = time.map(|time| {
        quantities(time, |unit| match unit {
            "H" => Some(3_600.0),
            "M" => Some(60.0),
            "S" => Some(1.0),
            _ => None,
        })
    });
    match (date.is_empty(), time) {
        (true, Some(time)) => time,
        (false, Some(time)) => Some(days? + time?),
        (_, None) => days,
    }
}

/// The sum of numbers that are each followed by a unit.
fn quantities(text: &str, unit: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == ',';
    let (mut sum, mut rest) = (None, text);
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (name, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let number: f64 = number.replace(',', ".").parse().ok()?;
        sum = Some(sum.unwrap_or(0.0) + number * unit(name)?);
        rest = after;
    }
    sum
}

/// An HTTP date in any of its three forms, as a Unix time in ms. Zones that senders use instead of GMT are understood.
fn http_date(text: &str) -> Option<f64> {
    if let Ok(at) = httpdate::parse_http_date(text) {
        return Some(unix_ms(at));
    }
    let (date, zone) = text.rsplit_once(' ')?;
    let offset = match zone.to_ascii_uppercase().as_str() {
        "GMT" | "UTC" | "UT" | "Z" => 0.0,
        zone => zone_offset(zone)?,
    };
    let at = httpdate::parse_http_date(&format!("{} GMT", date.trim_end())).ok()?;
    Some(unix_ms(at) - offset * 1e3)
}

/// A time by RFC 3339, as a Unix time in ms; without a zone it is in UTC.
fn rfc3339(text: &str) -> Option<f64> {
    let time_at = text.find(['T', 't', ' ']).filter(|at| *at == 10)?;
    let (stamp, offset) = match text.get(time_at..)?.rfind(['+', '-']) {
        Some(at) => (text.get(..time_at + at)?, zone_offset(text.get(time_at + at..)?)?),
        None => (text, 0.0),
    };
    let at = humantime::parse_rfc3339_weak(&stamp.to_ascii_uppercase()).ok()?;
    Some(unix_ms(at) - offset * 1e3)
}

/// `+0130` or `+01:30`, in seconds.
fn zone_offset(zone: &str) -> Option<f64> {
    let sign = match zone.chars().next()? {
        '+' => 1.0,
        '-' => -1.0,
        _ => return None,
    };
    let digits = zone.get(1..)?.replace(':', "");
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = (digits[..2].parse::<f64>().ok()?, digits[2..].parse::<f64>().ok()?);
    Some(sign * (hours * 3_600.0 + minutes * 60.0))
}

fn unix_ms(at: SystemTime) -> f64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64() * 1e3,
        Err(before) => -before.duration().as_secs_f64() * 1e3,
    }
}
