//! The date, for templates that print it. The time is given by the caller, in UTC, so that a prompt can be made
//! again.

use std::fmt::Write as _;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const DAY_S: i64 = 24 * 3600;
/// Most bytes of a format; `%A, %d %B %Y` has 13.
const FORMAT_BYTES_MAX: usize = 256;

/// `datetime.strftime` for the fields that a date or a time consists of. `None` for any other field.
pub(super) fn strftime(unix_s: i64, format: &str) -> Option<String> {
    if format.len() > FORMAT_BYTES_MAX {
        return None;
    }
    let (days, second) = (unix_s.div_euclid(DAY_S), unix_s.rem_euclid(DAY_S));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let month_name = MONTHS[usize::try_from(month - 1).ok()?];
    let day_name = DAYS[usize::try_from((days + 4).rem_euclid(7)).ok()?]; // 1 January 1970 was a Thursday
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let done = match chars.next()? {
            'Y' => write!(out, "{year:04}"),
            'y' => write!(out, "{:02}", year.rem_euclid(100)),
            'm' => write!(out, "{month:02}"),
            'd' => write!(out, "{day:02}"),
            'e' => write!(out, "{day:2}"),
            'B' => write!(out, "{month_name}"),
            'b' => write!(out, "{}", &month_name[..3]),
            'A' => write!(out, "{day_name}"),
            'a' => write!(out, "{}", &day_name[..3]),
            'H' => write!(out, "{hour:02}"),
            'I' => write!(out, "{:02}", (hour + 11) % 12 + 1),
            'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            'M' => write!(out, "{minute:02}"),
            'S' => write!(out, "{second:02}"),
            'j' => write!(out, "{:03}", days - days_before(year) + 1),
            'F' => write!(out, "{year:04}-{month:02}-{day:02}"),
            'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            'Z' => write!(out, "UTC"),
            '%' => write!(out, "%"),
            '-' => match chars.next()? {
                'd' => write!(out, "{day}"),
                'm' => write!(out, "{month}"),
                _ => return None,
            },
            _ => return None,
        };
        done.ok()?;
    }
    Some(out)
}

/// Year, month and day of a day counted from 1 January 1970 (Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468; // from 1 March of year 0
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from 1 January 1970 to 1 January of `year`.
fn days_before(year: i64) -> i64 {
    let past = year - 1;
    365 * (year - 1970) + (past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400)) - 477
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates() {
        for (unix_s, format, expected) in [
            (0, "%Y-%m-%d %H:%M:%S %j %a", "1970-01-01 00:00:00 001 Thu"),
            (1_721_952_000, "%d %b %Y", "26 Jul 2024"),
            (951_782_400, "%A, %-d %B %Y, day %j", "Tuesday, 29 February 2000, day 060"),
            (1_735_689_599, "%F %T %j %y %p %I", "2024-12-31 23:59:59 366 24 PM 11"),
            (-1, "%F %T", "1969-12-31 23:59:59"),
            (4_107_542_400, "%F %j 100%%", "2100-03-01 060 100%"),
        ] {
            assert_eq!(strftime(unix_s, format).as_deref(), Some(expected), "{unix_s} {format}");
        }
        for format in ["%Q", "%", "%-Q"] {
            assert_eq!(strftime(0, format), None, "{format}");
        }
    }
}
