//! Kubernetes quantities, such as `500m`, `2Gi` or `0.5`: the one place that knows their suffixes.
//!
//! The format is `resource.Quantity` of the Kubernetes API, without exponents (`1e3`), which the `ChatRoom` definition does not accept.

/// Suffixes and how many units each stands for. The empty suffix matches everything and is the last.
const SUFFIXES: [(&str, u128); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];

/// A quantity in thousandths of its unit, rounded down; `None` if the text is not a quantity or too large for the type.
pub(crate) fn thousandths(text: &str) -> Option<u128> {
    let (text, divisor) = text
        .strip_suffix('m')
        .map_or((text, 1), |rest| (rest, 1_000));
    let (number, unit) = SUFFIXES
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = digits.parse().ok()?;
    Some(digits.checked_mul(unit)?.checked_mul(1_000)? / divisor / scale)
}

/// A size in whole bytes; `None` if the text is not a quantity or not a whole number of bytes.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let thousandths = thousandths(text)?;
    let is_whole = thousandths.is_multiple_of(1_000);
    is_whole
        .then(|| u64::try_from(thousandths / 1_000).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_have_equal_thousandths() {
        for (left, right) in [
            ("1", "1000m"),
            ("500m", "0.5"),
            ("1Gi", "1024Mi"),
            ("1536Mi", "1.5Gi"),
        ] {
            assert!(thousandths(left).is_some(), "{left}");
            assert_eq!(thousandths(left), thousandths(right), "{left} {right}");
        }
        assert_ne!(thousandths("1G"), thousandths("1Gi"));
    }

    #[test]
    fn sizes_are_whole_numbers_of_bytes() {
        for (text, expected) in [
            ("1M", Some(1_000_000)),
            ("2Gi", Some(2 << 30)),
            ("1000000", Some(1_000_000)),
            ("1.5G", Some(1_500_000_000)),
            ("0.5", None),
            ("500m", None),
            ("", None),
            ("M", None),
            ("-1M", None),
            ("+1M", None),
            ("1e3", None),
            ("1é", None),
            ("99999999999Ti", None),
            ("340282366920938463463374607431768211455E", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }
}
