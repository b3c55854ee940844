//! Moments as people type them: `90s`, `15m`, `2h`, `3d` ago, seconds since 1970, or `2026-03-01T12:00:00Z`.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: i64 = 86_400;

/// Milliseconds since 1970 of a moment.
///
/// # Errors
/// What can be typed.
pub fn parse(text: &str) -> Result<i64, String> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    parse_at(text, now_ms).ok_or_else(|| {
        "a moment is 90s, 15m, 2h or 3d ago, seconds since 1970, or UTC as 2026-03-01T12:00:00Z".to_owned()
    })
}

fn parse_at(text: &str, now_ms: i64) -> Option<i64> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", DAY_S)];
    for (unit, seconds) in units {
        if let Some(count) = text.strip_suffix(unit).and_then(|count| count.parse::<u32>().ok()) {
            return Some(now_ms - i64::from(count) * seconds * 1000);
        }
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return (0.0..=1e12).contains(&seconds).then_some((seconds * 1e3) as i64);
    }
    let (date, time) = text.strip_suffix('Z').unwrap_or(text).split_once(['T', ' '])?;
    let numbers = |text: &str, between: char| -> Option<Vec<i64>> {
        let parts = text.split(between).map(|part| part.parse::<u32>().ok().map(i64::from));
        parts.collect::<Option<Vec<i64>>>().filter(|parts| parts.len() == 3)
    };
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    let sound =
        (1970..=9999).contains(&date[0]) && (1..=12).contains(&date[1]) && (1..=31).contains(&date[2]);
    let seconds = time[0] * 3600 + time[1] * 60 + time[2];
    (sound && time[0] < 24 && time[1] < 60 && time[2] < 60)
        .then(|| (days(date[0], date[1], date[2]) * DAY_S + seconds) * 1000)
}

/// Days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `2026-03-01 12:00:00.000`, UTC.
pub fn format(unix_ms: i64) -> String {
    let (day, ms) = (unix_ms.div_euclid(DAY_S * 1000), unix_ms.rem_euclid(DAY_S * 1000));
    let z = day + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (date, month) = (of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{date:02} {h:02}:{m:02}:{s:02}.{:03}", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now_ms = 1_000_000_000_000;
        let cases = [
            ("90s", Some(now_ms - 90_000)),
            ("2h", Some(now_ms - 7_200_000)),
            ("3d", Some(now_ms - 259_200_000)),
            ("1700000000.5", Some(1_700_000_000_500)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29 12:30:15", Some(951_827_415_000)),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("yesterday", None),
            ("-5", None),
            ("m", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_at(text, now_ms), expected, "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for ms in [0, 951_827_415_000, 1_700_000_000_000, 4_102_444_799_000, 68_256_000_000] {
            let shown = format(ms);
            assert_eq!(parse_at(shown.split_once('.').unwrap().0, 0), Some(ms), "{shown}");
        }
        assert_eq!(format(951_827_415_123), "2000-02-29 12:30:15.123");
    }
}
