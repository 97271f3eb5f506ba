//! Durations and sizes as Docker prints them (docker/go-units). Pure.

/// A rough duration: `About a minute`, `3 hours`.
pub fn duration(seconds: i64) -> String {
    const HOUR: i64 = 3600;
    let hours = (seconds + HOUR / 2) / HOUR;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / 60),
        _ => match hours {
            1 => "About an hour".to_owned(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{} days", hours / 24),
            336..1_440 => format!("{} weeks", hours / 24 / 7),
            1_440..17_520 => format!("{} months", hours / 24 / 30),
            _ => format!("{} years", seconds / HOUR / 24 / 365),
        },
    }
}

/// A size with up to three digits: `1.2kB`, `15MB`. `bytes` is in bytes.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let digits = format!("{value:.decimals$}");
    let digits = if decimals == 0 { &digits } else { digits.trim_end_matches('0').trim_end_matches('.') };
    format!("{digits}{}", UNITS[unit])
}

/// Shortens a text to `width` characters; the last one is an ellipsis then.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_docker_prints_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (730 * 86_400, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_have_at_most_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (12_340, "12.3kB"),
            (123_400, "123kB"),
            (100_000, "100kB"),
            (999_900, "1MB"),
            (15_000_000, "15MB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(ellipsis("sleep infinity", 20), "sleep infinity");
        assert_eq!(ellipsis("python3 -m http.server 8000", 20), "python3 -m http.ser…");
    }
}
