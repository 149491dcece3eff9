//! Numbers and names as a report writes them.

/// What stands for a number that is not there.
pub(super) const MISSING: &str = "n/a";

/// Numbers beyond this are no result: they are neither drawn nor written out.
const DRAWN_MAX: f64 = 1e12;

/// The value, if a figure has a place for it.
pub(super) fn drawable(value: f64) -> Option<f64> {
    (value.abs() <= DRAWN_MAX).then_some(value)
}

fn written(value: f64, write: impl Fn(f64) -> String) -> String {
    drawable(value).map_or_else(|| MISSING.to_owned(), write)
}

/// `0.725` as `72.5%`.
pub(super) fn percent(share: f64) -> String {
    written(share, |share| format!("{:.1}%", share * 100.0))
}

/// A reward.
pub(super) fn reward(value: f64) -> String {
    written(value, |value| if value.abs() < 1e6 { format!("{value:.3}") } else { format!("{value:.2e}") })
}

/// A number on an axis, as short as it can be.
pub(super) fn tick(value: f64) -> String {
    // Adding zero makes a zero of a negative zero.
    let value = value + 0.0;
    if value.abs() >= 1e6 {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds in the two units that matter.
pub(super) fn duration(seconds: f64) -> String {
    written(seconds, |seconds| {
        let whole = seconds.round().max(0.0) as u64;
        match whole {
            0..60 => format!("{seconds:.1} s"),
            60..3600 => format!("{} min {} s", whole / 60, whole % 60),
            _ => format!("{} h {} min", count(whole / 3600), whole / 60 % 60),
        }
    })
}

/// `3 rounds`, `1 round`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// What wrote the edits of a round.
pub(super) fn round_name(round: u64) -> String {
    if round == 0 { "untrained".to_owned() } else { format!("round {round}") }
}

/// `text` in one line, with control characters and those that change the direction of reading, or cannot be seen,
/// written out.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => out.push(' '),
            _ if character.is_control() || is_unseen(character) => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

fn is_unseen(character: char) -> bool {
    matches!(character,
        '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// Columns that a terminal gives to the text, nearly.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// Two for what East Asian scripts and pictures take.
fn columns(character: char) -> usize {
    let wide = matches!(character,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}');
    if wide { 2 } else { 1 }
}

/// The clean text in at most `max` columns; three dots say that it was cut.
pub(super) fn cut(text: &str, max: usize) -> String {
    let text = clean(text);
    if width(&text) <= max {
        return text;
    }
    let mut left = max.saturating_sub(3);
    let fits = |character: &char| match left.checked_sub(columns(*character)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    text.chars().take_while(fits).chain("...".chars()).collect()
}

/// The clean text in lines of at most `room` columns; a longer word is cut. One line at least.
pub(super) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in clean(text).split_whitespace() {
        for piece in pieces(word, room) {
            let line = lines.last().map_or(0, |line| width(line));
            let fits = line > 0 && line + 1 + width(&piece) <= room;
            match lines.last_mut() {
                Some(last) if fits => last.extend([" ", &piece]),
                Some(last) if last.is_empty() => last.push_str(&piece),
                _ => lines.push(piece),
            }
        }
    }
    lines
}

fn pieces(word: &str, room: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for character in word.chars() {
        if used + columns(character) > room {
            pieces.push(String::new());
            used = 0;
        }
        used += columns(character);
        if let Some(piece) = pieces.last_mut() {
            piece.push(character);
        }
    }
    pieces
}

/// The clean text as HTML, for an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in clean(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let cases = [
            (percent(0.725), "72.5%"),
            (percent(f64::NAN), "n/a"),
            (percent(f64::INFINITY), "n/a"),
            (reward(-0.25), "-0.250"),
            (reward(2.5e7), "2.50e7"),
            (count(0), "0"),
            (count(999), "999"),
            (count(1_234_567), "1,234,567"),
            (duration(0.26), "0.3 s"),
            (duration(59.7), "1 min 0 s"),
            (duration(125.0), "2 min 5 s"),
            (duration(8130.0), "2 h 15 min"),
            (duration(1e300), "n/a"),
            (tick(-0.0), "0"),
            (tick(10.0), "10"),
            (counted(1, "round"), "1 round"),
            (counted(2, "round"), "2 rounds"),
            (round_name(0), "untrained"),
        ];
        for (written, expected) in cases {
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn text_is_cut_and_wrapped_by_columns() {
        assert_eq!(cut("twelve chars", 12), "twelve chars");
        assert_eq!(cut("thirteen char", 12), "thirteen ...");
        assert_eq!(cut("\u{6f22}\u{6f22}\u{6f22}", 5), "\u{6f22}...");
        assert_eq!(wrapped("a bb ccc  dddddd", 4), ["a bb", "ccc", "dddd", "dd"]);
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(clean("a\u{1b}[0m\u{200b}\u{202e}\tb"), r"a\u{1b}[0m\u{200b}\u{202e} b");
    }
}
