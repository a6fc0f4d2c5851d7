//! The order in which people read names with numbers: `5000/tcp` before `10000/tcp`.

use std::cmp::Ordering;

/// Compares texts by their bytes, and numbers in them by their value.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (number(&mut a), number(&mut b)) {
            // Longer is larger, for zeros in front are gone.
            (Some(x), Some(y)) => match (x.len(), x).cmp(&(y.len(), y)) {
                Ordering::Equal => {}
                order => return order,
            },
            (Some(x), None) => return rest(x, b),
            (None, Some(y)) => return rest(a, y),
            (None, None) => match (a.split_first(), b.split_first()) {
                (Some((x, more)), Some((y, others))) if x == y => (a, b) = (more, others),
                (x, y) => return x.map(|(byte, _)| byte).cmp(&y.map(|(byte, _)| byte)),
            },
        }
    }
}

fn rest(a: &[u8], b: &[u8]) -> Ordering {
    a.first().cmp(&b.first())
}

/// Takes the number off that a text begins with.
fn number<'t>(text: &mut &'t [u8]) -> Option<&'t [u8]> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len().saturating_sub(1));
    *text = rest;
    (end > 0).then_some(&digits[zeros..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_by_their_value() {
        let mut all =
            ["b", "a10", "a9", "a09x", "a", "", "10", "9", "a10:2", "a10:10", "[::1]:80", "0.0.0.0:80", "[2001::]:1"];
        all.sort_by(|a, b| compare(a, b));
        assert_eq!(
            all,
            ["", "0.0.0.0:80", "9", "10", "[2001::]:1", "[::1]:80", "a", "a9", "a09x", "a10", "a10:2", "a10:10", "b"]
        );
    }
}
