//! Times on the wire: RFC 3339 in UTC with milliseconds.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment, stored as milliseconds since the Unix epoch and shown as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub i64);

impl Moment {
    /// Reads RFC 3339.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|time| Self(time.as_millisecond()))
    }

    /// Reads what a person writes into a query: RFC 3339, and a time without a zone or a date
    /// alone, both in UTC; a date is its first moment.
    #[must_use]
    pub fn parse_filter(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| {
            let time = text.parse::<jiff::civil::DateTime>().ok()?;
            let time = jiff::tz::Offset::UTC.to_timestamp(time).ok()?;
            Some(Self(time.as_millisecond()))
        })
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        write!(f, "{time:.3}")
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused = || de::Error::custom(format!("{text:?} is no RFC 3339 time"));
        Self::parse(&text).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_and_read_with_milliseconds() {
        let moment = Moment(1_763_942_400_005);
        assert_eq!(moment.to_string(), "2025-11-24T00:00:00.005Z");
        assert_eq!(Moment::parse("2025-11-24T01:00:00.005+01:00"), Some(moment));
        assert_eq!(Moment::parse("yesterday"), None);
    }

    #[test]
    fn filters_take_dates_and_times_without_a_zone() {
        let midnight = Some(Moment(1_763_942_400_000));
        for text in ["2025-11-24", "2025-11-24T00:00", "2025-11-24T01:00:00+01:00"] {
            assert_eq!(Moment::parse_filter(text), midnight, "{text}");
        }
        for text in ["2025-11", "24.11.2025", "2025-02-30", "1764000000", ""] {
            assert_eq!(Moment::parse_filter(text), None, "{text}");
        }
    }
}
