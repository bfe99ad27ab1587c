//! When a schedule fires: a cron expression in a time zone.

use std::fmt;
use std::str::FromStr as _;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::ScheduleError;
use crate::UnixMs;

/// A checked cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct When {
    spec: Spec,
    cron: Cron,
    zone: TimeZone,
}

/// The expression as it was written, and as it is stored in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Spec {
    cron: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tz: Option<String>,
}

impl When {
    /// The times of `cron`: five fields (minute, hour, day of the month, month, day of the week), six with seconds before them,
    /// or a nickname such as `@hourly`; in the time zone `tz`, a name such as `Europe/Berlin`, by default UTC.
    ///
    /// # Errors
    /// The expression cannot be parsed, or the time zone is unknown.
    pub fn new(cron: &str, tz: Option<&str>) -> Result<Self, ScheduleError> {
        Self::check(Spec { cron: cron.trim().to_owned(), tz: tz.map(str::to_owned) })
    }

    /// Parses a line written by [`to_line`](Self::to_line).
    pub(super) fn parse(line: &str) -> Result<Self, ScheduleError> {
        Self::check(serde_json::from_str(line).map_err(|error| ScheduleError::Unreadable(error.to_string()))?)
    }

    fn check(spec: Spec) -> Result<Self, ScheduleError> {
        let Spec { cron: expression, tz } = &spec;
        let cron = Cron::from_str(expression)
            .map_err(|error| ScheduleError::Cron { expression: expression.clone(), why: error.to_string() })?;
        let zone = match tz {
            None => TimeZone::UTC,
            Some(tz) => TimeZone::get(tz).map_err(|_| ScheduleError::TimeZone(tz.clone()))?,
        };
        Ok(Self { spec, cron, zone })
    }

    /// The first time after `at`; `None` if it never fires again.
    pub fn after(&self, at: UnixMs) -> Option<UnixMs> {
        let at = Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&at, false).ok()?;
        u64::try_from(next.timestamp().as_millisecond()).ok().map(UnixMs)
    }

    /// The cron expression.
    pub fn cron(&self) -> &str {
        &self.spec.cron
    }

    /// The time zone, if it is not the default, UTC.
    pub fn tz(&self) -> Option<&str> {
        self.spec.tz.as_deref()
    }

    /// The expression as one line of JSON. Equal expressions give equal lines, which the script that fires them compares.
    pub(super) fn to_line(&self) -> String {
        // It cannot fail: the fields are strings.
        serde_json::to_string(&self.spec).unwrap_or_default()
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cron(), self.tz().unwrap_or("UTC"))
    }
}

/// A time in the format of RFC 3339, in UTC.
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
    fn times_follow_the_clock_of_the_zone() -> Result<(), ScheduleError> {
        for (cron, tz, after, next) in [
            ("0 3 * * *", None, "2026-11-24T03:00:00Z", "2026-11-25T03:00:00Z"),
            ("0 3 * * *", Some("Europe/Berlin"), "2026-11-24T00:00:00Z", "2026-11-24T02:00:00Z"),
            ("0 3 * * *", Some("Europe/Berlin"), "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"),
            // The clock jumps from 2:00 to 3:00: a time in between fires right after the jump.
            ("30 2 * * *", Some("Europe/Berlin"), "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
            // It goes back from 3:00 to 2:00: the time fires once.
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
    fn an_invalid_expression_or_zone_is_refused() {
        for (cron, tz, says) in [
            ("", None, "not a valid cron expression"),
            ("* * *", None, "Use five fields"),
            ("61 * * * *", None, "not a valid cron expression"),
            ("every day", None, "not a valid cron expression"),
            ("* * * * *", Some("Nowhere/Here"), "Europe/Berlin"),
        ] {
            let refused = When::new(cron, tz).map(|_| ());
            assert!(refused.as_ref().is_err_and(|why| why.to_string().contains(says)), "{cron}: {refused:?}");
        }
        assert_eq!(When::new("0 0 30 2 *", None).map(|when| when.after(UnixMs(0))), Ok(None), "never");
    }

    #[test]
    fn a_line_parses_back_to_the_same_expression() -> Result<(), ScheduleError> {
        for tz in [None, Some("Asia/Tokyo")] {
            let when = When::new("0 3 * * *", tz)?;
            assert_eq!(When::parse(&when.to_line())?.spec, when.spec);
        }
        Ok(())
    }
}
