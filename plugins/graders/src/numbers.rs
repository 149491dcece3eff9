//! The numbers in a text, in digits or in English words.
//!
//! Thousands may have commas; signs of currency and percent count for nothing, so "50%" is 50.

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];

const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

const SCALES: [(&str, f64); 4] = [("thousand", 1e3), ("million", 1e6), ("billion", 1e9), ("trillion", 1e12)];

/// A word of a number.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    /// In digits.
    Digits(f64),
    /// Zero to nineteen.
    Small(f64),
    /// Twenty, thirty, ..
    Ten(f64),
    Hundred,
    /// Thousand, million, ..
    Scale(f64),
    And,
    Other,
}

/// A number in the making: 2,015 is `done` 2,000 and `group` 15.
#[derive(Clone, Copy)]
struct Number {
    done: f64,
    group: f64,
    last: Word,
}

/// The numbers of a text, in order.
pub(crate) fn numbers(text: &str) -> Vec<f64> {
    let lower = text.to_lowercase().replace('−', "-");
    let (mut found, mut current): (Vec<f64>, Option<Number>) = (Vec::new(), None);
    for word in lower.split_whitespace().flat_map(words) {
        let continued = current.and_then(|number| number.followed_by(word));
        if continued.is_none() {
            found.extend(current.map(Number::value));
        }
        current = continued.or_else(|| Number::begun_by(word));
    }
    found.extend(current.map(Number::value));
    found
}

impl Number {
    fn value(self) -> f64 {
        self.done + self.group
    }

    fn begun_by(word: Word) -> Option<Number> {
        match word {
            Word::Digits(value) | Word::Small(value) | Word::Ten(value) => {
                Some(Number { done: 0.0, group: value, last: word })
            }
            Word::Hundred => Some(Number { done: 0.0, group: 100.0, last: word }),
            Word::Scale(scale) => Some(Number { done: scale, group: 0.0, last: word }),
            Word::And | Word::Other => None,
        }
    }

    /// The number with one word more; `None` when the word is not of this number.
    fn followed_by(self, word: Word) -> Option<Number> {
        let after_round = matches!(self.last, Word::Hundred | Word::Scale(_) | Word::And);
        let Number { done, group, last } = self;
        match word {
            Word::And if matches!(last, Word::Hundred | Word::Scale(_)) => {
                Some(Number { last: word, ..self })
            }
            Word::Small(value) if after_round || (matches!(last, Word::Ten(_)) && value < 10.0) => {
                Some(Number { done, group: group + value, last: word })
            }
            Word::Ten(value) if after_round => Some(Number { done, group: group + value, last: word }),
            Word::Hundred if matches!(last, Word::Small(_) | Word::Digits(_)) => {
                Some(Number { done, group: group * 100.0, last: word })
            }
            Word::Scale(scale) if !matches!(last, Word::And | Word::Scale(_)) => {
                Some(Number { done: done + group * scale, group: 0.0, last: word })
            }
            _ => None,
        }
    }
}

/// A piece of text as words of numbers: "twenty-five" is two, "$1,200.50" one.
fn words(piece: &str) -> Vec<Word> {
    let bare = piece.trim_matches(|c: char| !c.is_alphanumeric() && c != '-' && c != '.');
    if let Some(value) = digits(bare) {
        return vec![Word::Digits(value)];
    }
    let parts = bare.split(|c: char| !c.is_alphanumeric() && c != '.' && c != ',');
    parts.filter(|part| !part.is_empty()).map(word).collect()
}

fn word(part: &str) -> Word {
    let part = part.trim_matches(['.', ',']);
    let place = |list: &[&str]| list.iter().position(|known| *known == part);
    if let Some(value) = digits(part) {
        return Word::Digits(value);
    }
    if let Some(value) = place(&SMALL) {
        return Word::Small(value as f64);
    }
    if let Some(tens) = place(&TENS) {
        return Word::Ten((tens * 10 + 20) as f64);
    }
    if let Some((_, scale)) = SCALES.iter().find(|(name, _)| *name == part) {
        return Word::Scale(*scale);
    }
    match part {
        "hundred" => Word::Hundred,
        "and" => Word::And,
        _ => Word::Other,
    }
}

/// A number in digits: a sign, digits with commas between thousands, a fraction.
fn digits(text: &str) -> Option<f64> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let unsigned = text.trim_start_matches(|c: char| c == '-' || (!c.is_alphanumeric() && c != '.'));
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    if !unsigned.contains(|c: char| c.is_ascii_digit()) || !unsigned.chars().all(plain) {
        return None;
    }
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let mut thousands = groups.clone().all(|group| group.len() == 3);
    thousands &= groups.next().is_none() || (1..=3).contains(&first.len());
    if !thousands || fraction.contains([',', '.']) {
        return None;
    }
    let value: f64 = format!("0{}.{fraction}0", whole.replace(',', "")).parse().ok()?;
    Some(if text.starts_with('-') { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_digits_and_in_words() {
        let check = |text: &str, expected: &[f64]| assert_eq!(numbers(text), expected, "{text}");
        check("It was 1,234.5 in 1990.", &[1234.5, 1990.0]);
        check("$5, £3.20 and 50%.", &[5.0, 3.2, 50.0]);
        check("-3 or −4, -$2", &[-3.0, -4.0, -2.0]);
        check(".5 of 1990-1995", &[0.5, 1990.0, 1995.0]);
        check("3.5 million", &[3_500_000.0]);
        check("twenty-five people", &[25.0]);
        check("two hundred and five thousand and twelve", &[205_012.0]);
        check("five and ten", &[5.0, 10.0]);
        check("one two twenty", &[1.0, 2.0, 20.0]);
        check("Two Thousand Fifteen", &[2015.0]);
        check("1,2 and 12,34", &[]);
        check("B2B v1.2.3 none", &[]);
        check("", &[]);
    }
}
