//! When a schedule fires: a cron expression in a time zone.

use std::fmt;
use std::str::FromStr as _;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::UnixMs;

/// A cron expression in a time zone, checked.
#[derive(Debug, Clone)]
pub struct When {
    written: Written,
    cron: Cron,
    zone: TimeZone,
}

/// As it was given, and as it lies in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    cron: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tz: Option<String>,
}

impl When {
    /// The times of `cron`: five fields (minute, hour, day of the month, month, day of the week), six with seconds before them,
    /// or `@hourly` and its like; by the clock of `tz`, a name such as `Europe/Berlin`, or in UTC.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn new(cron: &str, tz: Option<&str>) -> Result<Self, String> {
        Self::check(Written { cron: cron.trim().to_owned(), tz: tz.map(str::to_owned) })
    }

    /// One as [`to_line`](Self::to_line) wrote it.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        Self::check(serde_json::from_str(line).map_err(|error| error.to_string())?)
    }

    fn check(written: Written) -> Result<Self, String> {
        let Written { cron: text, tz } = &written;
        let cron = Cron::from_str(text).map_err(|error| {
            format!("{text:?} is no cron expression: {error} Use five fields, as in \"30 6 * * 1-5\" (minute, hour, day, month, weekday), six with seconds before them, or @hourly, @daily, @weekly, @monthly")
        })?;
        let zone = match tz {
            None => TimeZone::UTC,
            Some(tz) => {
                TimeZone::get(tz).map_err(|_| format!("{tz:?} is no time zone: use a name such as Europe/Berlin"))?
            }
        };
        Ok(Self { written, cron, zone })
    }

    /// The first time after `at`; `None`: there is none.
    pub fn after(&self, at: UnixMs) -> Option<UnixMs> {
        let at = Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&at, false).ok()?;
        u64::try_from(next.timestamp().as_millisecond()).ok().map(UnixMs)
    }

    /// The cron expression.
    pub fn cron(&self) -> &str {
        &self.written.cron
    }

    /// The time zone, where one was given.
    pub fn tz(&self) -> Option<&str> {
        self.written.tz.as_deref()
    }

    /// One line of JSON; the same for what is written the same.
    pub(super) fn to_line(&self) -> String {
        // It can't fail: two strings.
        serde_json::to_string(&self.written).unwrap_or_default()
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cron(), self.tz().unwrap_or("UTC"))
    }
}

/// A moment as RFC 3339 has it, in UTC.
pub(super) fn rfc3339(at: UnixMs) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(time: &str) -> UnixMs {
        UnixMs(time.parse::<Timestamp>().map_or(0, |at| at.as_millisecond().unsigned_abs()))
    }

    #[test]
    fn times_follow_the_clock_of_the_zone() -> Result<(), String> {
        for (cron, tz, after, next) in [
            ("0 3 * * *", None, "2026-11-24T03:00:00Z", "2026-11-25T03:00:00Z"),
            ("0 3 * * *", Some("Europe/Berlin"), "2026-11-24T00:00:00Z", "2026-11-24T02:00:00Z"),
            ("0 3 * * *", Some("Europe/Berlin"), "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"),
            // The clock goes from 2:00 to 3:00: what falls between comes right after.
            ("30 2 * * *", Some("Europe/Berlin"), "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
            // It goes from 3:00 back to 2:00: once.
            ("30 2 * * *", Some("Europe/Berlin"), "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            ("*/10 * * * * *", None, "2026-11-24T00:00:00.500Z", "2026-11-24T00:00:10Z"),
            ("@daily", None, "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"),
            ("30 6 * * MON-FRI", None, "2026-11-27T07:00:00Z", "2026-11-30T06:30:00Z"),
        ] {
            assert_eq!(When::new(cron, tz)?.after(ms(after)), Some(ms(next)), "{cron} {tz:?} after {after}");
        }
        Ok(())
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (cron, tz, says) in [
            ("", None, "no cron expression"),
            ("* * *", None, "Use five fields"),
            ("61 * * * *", None, "no cron expression"),
            ("every day", None, "no cron expression"),
            ("* * * * *", Some("Nowhere/Here"), "Europe/Berlin"),
        ] {
            let refused = When::new(cron, tz).map(|_| ());
            assert!(refused.as_ref().is_err_and(|why| why.contains(says)), "{cron}: {refused:?}");
        }
        assert_eq!(When::new("0 0 30 2 *", None).map(|when| when.after(UnixMs(0))), Ok(None), "never");
    }

    #[test]
    fn a_line_comes_back_as_it_went() -> Result<(), String> {
        for tz in [None, Some("Asia/Tokyo")] {
            let when = When::new("0 3 * * *", tz)?;
            assert_eq!(When::parse(&when.to_line())?.written, when.written);
        }
        Ok(())
    }
}
