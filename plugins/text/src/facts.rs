//! Facts said in other words: templates for the simplest sentences.
//!
//! A template must not change what is said, so each is narrow: a short subject that is a name or has an article,
//! no pronouns, no clauses, no lists. What does not match gives nothing.

/// Words of a sentence that is looked at.
const WORDS_MAX: usize = 30;

/// Words of a subject.
const SUBJECT_WORDS_MAX: usize = 6;

/// First words that make no subject that could stand alone.
const NO_SUBJECT: [&str; 55] = [
    "he", "she", "it", "they", "we", "you", "i", "this", "that", "these", "those", "there", "here", "who",
    "which", "what", "when", "where", "while", "one", "some", "many", "most", "all", "both", "each",
    "another", "other", "others", "his", "her", "its", "their", "our", "my", "in", "on", "at", "by", "for",
    "from", "after", "before", "during", "with", "as", "to", "such", "likewise", "every", "only", "also",
    "thus", "hence", "no",
];

/// Words that begin a clause, join two, or refer to something before; also verbs that would be a second one.
const JOINTS: [&str; 40] = [
    "and", "or", "but", "nor", "that", "which", "who", "whom", "whose", "when", "while", "where", "because",
    "after", "before", "until", "since", "if", "although", "though", "as", "than", "to", "not", "never",
    "has", "have", "had", "he", "she", "it", "they", "his", "her", "its", "their", "this", "these", "there",
    "whether",
];

/// Forms of "be": one of them is in most templates, a second one never.
const BE: [&str; 6] = ["is", "are", "was", "were", "be", "been"];

/// Last words that say when or how, and would go to the wrong place.
const ADVERBS: [&str; 18] = [
    "alone",
    "himself",
    "herself",
    "itself",
    "themselves",
    "later",
    "again",
    "together",
    "today",
    "too",
    "first",
    "next",
    "now",
    "then",
    "also",
    "instead",
    "ago",
    "once",
];

/// Simple past and participle.
const VERBS: [(&str, &str); 20] = [
    ("built", "built"),
    ("composed", "composed"),
    ("created", "created"),
    ("defeated", "defeated"),
    ("designed", "designed"),
    ("developed", "developed"),
    ("directed", "directed"),
    ("discovered", "discovered"),
    ("established", "established"),
    ("founded", "founded"),
    ("introduced", "introduced"),
    ("invaded", "invaded"),
    ("invented", "invented"),
    ("opened", "opened"),
    ("produced", "produced"),
    ("proposed", "proposed"),
    ("published", "published"),
    ("signed", "signed"),
    ("won", "won"),
    ("wrote", "written"),
];

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

/// A sentence's words without the full stop.
type Words<'a> = &'a [&'a str];

/// The sentence in other words: none when no template fits.
pub(crate) fn rewrite(sentence: &str) -> Vec<String> {
    let Some(body) = sentence.strip_suffix('.') else { return Vec::new() };
    let words: Vec<&str> = body.split(' ').collect();
    let unfit = |c: char| matches!(c, '.' | '!' | '?' | ';' | ':' | '"' | '“' | '”' | '(' | ')' | '\n');
    if words.len() > WORDS_MAX || body.contains(unfit) {
        return Vec::new();
    }
    [move_time, born, made_by, made, definition].iter().flat_map(|template| template(&words)).collect()
}

/// "In 1887, X did Y" and "X did Y in 1887" are the same.
fn move_time(words: Words<'_>) -> Vec<String> {
    if let Some(comma) = words.iter().position(|word| word.ends_with(',')) {
        let (lead, main) = words.split_at(comma + 1);
        let lead = lead.join(" ").replacen("In ", "in ", 1).replacen("On ", "on ", 1);
        let lead: Vec<&str> = lead.trim_end_matches(',').split(' ').collect();
        return match time_at(&lead) {
            Some(0) if stands_alone(main) => vec![said(&[&upper(&main.join(" ")), &lead.join(" ")])],
            _ => Vec::new(),
        };
    }
    let (main, time) = split_time(words);
    if time.is_empty() || main.len() < 3 || !stands_alone(main) {
        return Vec::new();
    }
    vec![said(&[&upper(&format!("{},", time.join(" "))), &inner(main)])]
}

/// Whether these words are one plain statement without another time.
fn stands_alone(words: Words<'_>) -> bool {
    let plain = |word: &&str| !JOINTS.contains(word) && !word.contains([',', '’']) && !has_digit(word);
    is_subject_start(words)
        && words.iter().all(plain)
        && count_of_be(words) <= 1
        && words.last().is_some_and(|last| !BE.contains(last))
}

/// "X was born in P in Y."
fn born(words: Words<'_>) -> Vec<String> {
    let Some(at) = find(words, &["was", "born"]) else { return Vec::new() };
    let (subject, rest) = (&words[..at], &words[at + 2..]);
    let (place, time) = split_time(rest);
    let is_place = |word: &&str| word.starts_with(char::is_uppercase) || ["of", "the"].contains(word);
    let has_place = place.first() == Some(&"in") && place.len() > 1 && place[1..].iter().all(is_place);
    if !is_subject(subject) || !(has_place || place.is_empty()) {
        return Vec::new();
    }
    let (who, mut made) = (inner(subject), Vec::new());
    if has_place {
        made.push(asked(&format!("Where was {who} born?"), &said(&[&upper(&place.join(" "))])));
        made.push(said(&["The birthplace of", &who, "is", &place[1..].join(" ")]));
    }
    if !time.is_empty() {
        made.push(asked(&format!("When was {who} born?"), &said(&[&upper(&time.join(" "))])));
    }
    made
}

/// "X was founded by Y in 1887."
fn made_by(words: Words<'_>) -> Vec<String> {
    let participle = |verb: &str| VERBS.iter().find(|(_, participle)| *participle == verb);
    let Some(by) = words.iter().position(|word| *word == "by").filter(|by| *by >= 3) else {
        return Vec::new();
    };
    let (subject, be, verb) = (&words[..by - 2], words[by - 2], words[by - 1]);
    let (agent, time) = split_time(&words[by + 1..]);
    let Some((past, _)) = participle(verb).filter(|_| ["was", "were"].contains(&be)) else {
        return Vec::new();
    };
    if !is_subject(subject) || !is_object(agent) {
        return Vec::new();
    }
    let (what, who) = (inner(subject), agent.join(" "));
    let mut made = vec![said(&[&upper(&who), past, &what, &time.join(" ")])];
    made.push(asked(&format!("By whom or what {be} {what} {verb}?"), &said(&["By", &who])));
    made
}

/// "X wrote Y in 1887."
fn made(words: Words<'_>) -> Vec<String> {
    let is_past = |word: &&str| VERBS.iter().any(|(past, _)| past == word);
    let Some(at) = words.iter().position(is_past) else { return Vec::new() };
    let (subject, verb) = (&words[..at], words[at]);
    let Some((_, participle)) = VERBS.iter().find(|(past, _)| *past == verb) else { return Vec::new() };
    let (object, time) = split_time(&words[at + 1..]);
    if !is_subject(subject) || !is_object(object) || !is_singular(object) {
        return Vec::new();
    }
    let (who, what) = (inner(subject), object.join(" "));
    let turned = said(&[&upper(&what), "was", participle, "by", &who, &time.join(" ")]);
    vec![turned, asked(&format!("Who or what {verb} {what}?"), &said(&[&subject.join(" ")]))]
}

/// "X is a Y.", "X was the Y."
fn definition(words: Words<'_>) -> Vec<String> {
    let is_form = |pair: &[&str]| ["is", "was"].contains(&pair[0]) && ["a", "an", "the"].contains(&pair[1]);
    let Some(at) = words.windows(2).position(is_form) else { return Vec::new() };
    let (subject, be, what) = (&words[..at], words[at], &words[at + 1..]);
    let goes_on = |word: &&str| word.contains(',') || *word == "and" || BE.contains(word);
    if !is_subject(subject) || refers_back(subject) || what.len() < 3 || what.iter().any(goes_on) {
        return Vec::new();
    }
    let who = inner(subject);
    let mut made = vec![asked(&format!("What {be} {who}?"), &said(&[&upper(&what.join(" "))]))];
    let one_thing = !["A", "An"].contains(&subject[0]) && what.iter().all(|word| !JOINTS.contains(word));
    if what[0] == "the" && one_thing {
        made.push(said(&[&upper(&what.join(" ")), be, &who]));
    }
    made
}

/// Words that can be a subject: a short name, or a short noun with its article.
fn is_subject(words: Words<'_>) -> bool {
    words.len() <= SUBJECT_WORDS_MAX
        && is_subject_start(words)
        && words.iter().all(|word| !word.contains(',') && !JOINTS.contains(word))
        && count_of_be(words) == 0
}

/// "The result", "the exception": of what, the sentence before says.
fn refers_back(words: Words<'_>) -> bool {
    words.len() == 2 && words[0] == "The" && words[1].starts_with(char::is_lowercase)
}

fn is_subject_start(words: Words<'_>) -> bool {
    let Some(first) = words.first() else { return false };
    let article = ["the", "a", "an"].contains(&first.to_lowercase().as_str());
    (article && words.len() > 1)
        || (!first.ends_with("ing")
            && first.starts_with(char::is_uppercase)
            && !NO_SUBJECT.contains(&first.to_lowercase().as_str()))
}

/// Words that can change places with the subject: as a subject, with no preposition but "of" and no adverb.
fn is_object(words: Words<'_>) -> bool {
    let prepositions = ["in", "on", "at", "for", "from", "with", "by", "under", "into", "during", "against"];
    let last_fits = words.last().is_some_and(|last| !ADVERBS.contains(last) && !last.ends_with("ly"));
    is_subject(words) && last_fits && words.iter().all(|word| !prepositions.contains(word))
}

/// Whether "was" goes with it, as far as a rule can say.
fn is_singular(words: Words<'_>) -> bool {
    let end = words.iter().position(|word| *word == "of").unwrap_or(words.len());
    let head = words.get(end.saturating_sub(1)).copied().unwrap_or_default();
    ["a", "an"].contains(&words[0]) || !head.ends_with('s')
}

fn count_of_be(words: Words<'_>) -> usize {
    words.iter().filter(|word| BE.contains(word)).count()
}

fn find(words: Words<'_>, wanted: &[&str]) -> Option<usize> {
    words.windows(wanted.len()).position(|pair| pair == wanted)
}

fn has_digit(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit())
}

/// The words before a time at the end ("in 1887", "in May 1887", "on 4 May 1887"), and that time.
fn split_time<'a>(words: Words<'a>) -> (Words<'a>, Words<'a>) {
    words.split_at(time_at(words).unwrap_or(words.len()))
}

/// Where a time begins that goes on to the end.
fn time_at(words: Words<'_>) -> Option<usize> {
    let (year, before) = words.split_last()?;
    if year.len() != 4 || !year.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let month = before.last().is_some_and(|word| MONTHS.contains(word));
    let before = &before[..before.len() - usize::from(month)];
    let is_day = |word: &&str| month && word.len() <= 2 && word.bytes().all(|digit| digit.is_ascii_digit());
    let day = before.last().is_some_and(is_day);
    let before = &before[..before.len() - usize::from(day)];
    let preposition = if day { "on" } else { "in" };
    (before.last() == Some(&preposition)).then(|| before.len() - 1)
}

/// A sentence of these parts; empty ones are left out.
fn said(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    format!("{}.", parts.join(" "))
}

fn asked(question: &str, answer: &str) -> String {
    format!("Question: {question}\nAnswer: {answer}")
}

/// With a capital at the start.
fn upper(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

/// As it stands inside a sentence: an article in lower case.
fn inner(words: Words<'_>) -> String {
    let text = words.join(" ");
    match words.first() {
        Some(&("The" | "A" | "An")) => text[..1].to_lowercase() + &text[1..],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sentence: &str, expected: &[&str]) {
        assert_eq!(rewrite(sentence), expected, "{sentence}");
    }

    #[test]
    fn a_definition_becomes_a_question_and_an_identity_turns_around() {
        check("Tallinn is a city in Estonia.", &["Question: What is Tallinn?\nAnswer: A city in Estonia."]);
        check(
            "The Tesla coil was the first of its kind.",
            &["Question: What was the Tesla coil?\nAnswer: The first of its kind."],
        );
        check(
            "Paris is the capital of France.",
            &["Question: What is Paris?\nAnswer: The capital of France.", "The capital of France is Paris."],
        );
    }

    #[test]
    fn a_birth_is_asked_for_by_place_and_time() {
        check(
            "Nikola Tesla was born in Smiljan in 1856.",
            &[
                "In 1856, Nikola Tesla was born in Smiljan.",
                "Question: Where was Nikola Tesla born?\nAnswer: In Smiljan.",
                "The birthplace of Nikola Tesla is Smiljan.",
                "Question: When was Nikola Tesla born?\nAnswer: In 1856.",
            ],
        );
        check(
            "Ada Lovelace was born on 10 December 1815.",
            &[
                "On 10 December 1815, Ada Lovelace was born.",
                "Question: When was Ada Lovelace born?\nAnswer: On 10 December 1815.",
            ],
        );
        check("Tesla was born to a poor family.", &[]);
    }

    #[test]
    fn who_did_what_is_said_both_ways() {
        check(
            "The tower was designed by Gustave Eiffel in 1887.",
            &[
                "In 1887, the tower was designed by Gustave Eiffel.",
                "Gustave Eiffel designed the tower in 1887.",
                "Question: By whom or what was the tower designed?\nAnswer: By Gustave Eiffel.",
            ],
        );
        check(
            "Tolkien wrote The Hobbit.",
            &[
                "The Hobbit was written by Tolkien.",
                "Question: Who or what wrote The Hobbit?\nAnswer: Tolkien.",
            ],
        );
        check(
            "The firm opened a museum of art in May 1990.",
            &[
                "In May 1990, the firm opened a museum of art.",
                "A museum of art was opened by the firm in May 1990.",
                "Question: Who or what opened a museum of art?\nAnswer: The firm.",
            ],
        );
    }

    #[test]
    fn a_time_moves_to_the_other_end() {
        check("In 1990, the wall fell.", &["The wall fell in 1990."]);
        check("On 3 May 1990, Anna left Berlin.", &["Anna left Berlin on 3 May 1990."]);
    }

    #[test]
    fn what_a_template_could_get_wrong_is_left_out() {
        for sentence in [
            "He was a painter of note.",
            "It was founded by Anna.",
            "Anna and Otto wrote a book, but nobody read it.",
            "Anna founded the schools.",
            "Anna wrote the book for children.",
            "Anna wrote quickly.",
            "Anna founded the firm alone.",
            "In 1990, he said that the wall would fall.",
            "Anna said that Otto left in 1990.",
            "Is it a city?",
            "Anna was not the first.",
            "",
            ".",
            "wrote.",
            "by.",
        ] {
            check(sentence, &[]);
        }
    }
    #[test]
    fn every_order_of_words_is_survived() {
        let vocabulary = [
            "The", "tower", "Anna", "was", "born", "by", "in", "In", "on", "1887", "1887,", "May", "4",
            "wrote", "built", "a", "the", "is", "of", "Émile", "İ", "", ",", "and",
        ];
        let mut rng = selkie_sdk::Rng::new(0);
        for _ in 0..50_000 {
            let words: Vec<&str> =
                (0..rng.below(9)).map(|_| vocabulary[rng.below(vocabulary.len())]).collect();
            let made = rewrite(&(words.join(" ") + "."));
            assert!(
                made.iter().all(|text| text.ends_with('.') && !text.contains("..")),
                "{words:?} {made:?}"
            );
        }
    }
}
