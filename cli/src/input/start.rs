//! `consume --from`: where to begin, as it is typed.

use std::str::FromStr;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Start,
    End,
    Offset(u64),
    Last(u64),
    /// Milliseconds since the Unix epoch.
    Time(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            let number = digits.parse().map_err(|_| {
                "give start, end, an offset such as 17, -10 for the last 10 records, or a time such as @2026-01-31T08:00:00Z".to_owned()
            });
            if digits.starts_with('+') {
                Err("write the offset without +".to_owned())
            } else {
                number
            }
        };
        if let Some(time) = text.strip_prefix('@') {
            return parse_time(time).map(Self::Time);
        }
        match text.strip_prefix('-') {
            _ if matches!(text, "start" | "earliest" | "beginning") => Ok(Self::Start),
            _ if matches!(text, "end" | "latest") => Ok(Self::End),
            Some(digits) => number(digits).map(Self::Last),
            None => number(text).map(Self::Offset),
        }
    }
}

/// Reads a time in RFC 3339, or in milliseconds since the Unix epoch.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let ms = if is_number {
        text.parse().ok()
    } else {
        let time = text.parse::<jiff::Timestamp>().ok();
        time.map(jiff::Timestamp::as_millisecond)
            .filter(|ms| *ms >= 0)
    };
    ms.ok_or_else(|| {
        "give the time like @2026-01-31T08:00:00Z, with Z or an offset such as +01:00, or in milliseconds since 1970 like @1769846400000".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read() {
        assert_eq!("start".parse(), Ok(From::Start));
        assert_eq!("end".parse(), Ok(From::End));
        assert_eq!("earliest".parse(), Ok(From::Start));
        assert_eq!("latest".parse(), Ok(From::End));
        assert_eq!("0".parse(), Ok(From::Offset(0)));
        assert_eq!("17".parse(), Ok(From::Offset(17)));
        assert_eq!("-10".parse(), Ok(From::Last(10)));
        assert_eq!("@0".parse(), Ok(From::Time(0)));
        for text in [
            "@1769846400000",
            "@2026-01-31T08:00:00Z",
            "@2026-01-31T09:00:00.000+01:00",
        ] {
            assert_eq!(text.parse(), Ok(From::Time(1_769_846_400_000)), "{text}");
        }
        for wrong in [
            "",
            "-",
            "--1",
            "+1",
            "1.5",
            "yesterday",
            "@",
            "@-1",
            "@2026-01-31",
            "@2026-01-31T08:00:00",
            "@1969-01-31T08:00:00Z",
            "@99999999999999999999",
            "18446744073709551616",
        ] {
            assert!(wrong.parse::<From>().is_err(), "{wrong}");
        }
    }
}
