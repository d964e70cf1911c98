//! Durations as people write them for Kubernetes: `90s`, `30m`, `1h30m`.

use std::time::Duration;

/// The longest one: a year.
const MAX_SECONDS: u64 = 8760 * 3600;

/// Reads whole hours, minutes and seconds, each at most once, in this order.
///
/// # Errors
/// What is wrong with the text, for people.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let mut seconds = 0u64;
    let mut rest = text;
    let mut units = [('h', 3600), ('m', 60), ('s', 1)].into_iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let Ok(number) = number.parse::<u64>() else {
            return Err("a whole number is missing or too great".to_owned());
        };
        let Some(unit) = tail.chars().next() else {
            return Err(format!("{number} has no unit; for seconds write {number}s"));
        };
        let Some((_, factor)) = units.find(|(name, _)| *name == unit) else {
            return Err(format!("{unit:?} is not a unit, or not in the order h, m, s"));
        };
        seconds = seconds.saturating_add(number.saturating_mul(factor));
        rest = &tail[unit.len_utf8()..];
    }
    match seconds {
        0 => Err("it is no time at all".to_owned()),
        1..=MAX_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err("it is more than a year".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_whole_or_refused() {
        for (text, seconds) in
            [("1s", 1), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2h5s", 7205), ("8760h", 31536000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "0s", "30", "m", "-1s", "1.5h", "1d", "1s1m", "1m1m", "1 m", "8761h", "99999999999999999999s", "1é"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("600").is_err_and(|e| e.contains("600s")));
    }
}
