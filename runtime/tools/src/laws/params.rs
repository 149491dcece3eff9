//! Parameters made from a tool's schema. What is made is a guess: the schema itself decides whether it is valid.
//!
//! The common keywords are understood, one by one; others are left to chance and to the check.

use proptest::prelude::{BoxedStrategy, Just, Strategy};
use proptest::strategy::Union;
use proptest::{bool, collection, option, sample};
use serde_json::{Map, Value};

use super::inputs::runner;
use crate::manifest;

/// Parts of a schema that are looked at. The largest built-in schema has under a hundred.
const PARTS_MAX: usize = 4096;

/// Items of nested lists and characters of texts that one value may have together.
const WEIGHT_MAX: usize = 4096;

/// Items or characters above the smallest number allowed.
const MORE_ITEMS: usize = 4;

/// How far numbers go where the schema sets no bound.
const FAR: i64 = 1000;

/// How far they go where it does: 2^53, up to which a JSON number is exact everywhere.
const FARTHEST: i64 = 1 << 53;

/// Draws for one value before it is given up. A schema that is met once in a hundred draws is met.
pub(super) const DRAWS_MAX: usize = 1000;

/// At most `count` values that the schema accepts, the same for the same seed; fewer, or none, when they are hard
/// to come by.
pub fn sample_params(schema: &Value, count: usize, seed: u64) -> Vec<Value> {
    let Ok(validator) = manifest::check_schema(schema) else { return Vec::new() };
    let (strategy, mut runner) = (values(schema), runner(seed, "params"));
    let draws = std::iter::repeat_with(|| Some(strategy.new_tree(&mut runner).ok()?.current()));
    let valid =
        draws.take(count.saturating_mul(DRAWS_MAX)).flatten().filter(|value| validator.is_valid(value));
    valid.take(count).collect()
}

/// Values that are likely to be what the schema says.
pub(super) fn values(schema: &Value) -> BoxedStrategy<Value> {
    Builder { parts_left: PARTS_MAX }.value(schema, 1)
}

struct Builder {
    parts_left: usize,
}

impl Builder {
    /// `weight` is how many of these values the whole may hold.
    fn value(&mut self, schema: &Value, weight: usize) -> BoxedStrategy<Value> {
        let Some(left) = self.parts_left.checked_sub(1) else { return Just(Value::Null).boxed() };
        self.parts_left = left;
        let Some(schema) = schema.as_object() else { return anything() };
        let examples = schema.get("default").into_iter().chain(list(schema, "examples"));
        let examples: Vec<Value> = examples.cloned().collect();
        let made = self.by_keyword(schema, weight);
        if examples.is_empty() { made } else { Union::new([sample::select(examples).boxed(), made]).boxed() }
    }

    fn by_keyword(&mut self, schema: &Map<String, Value>, weight: usize) -> BoxedStrategy<Value> {
        if let Some(value) = schema.get("const") {
            return Just(value.clone()).boxed();
        }
        let choices: Vec<Value> = list(schema, "enum").cloned().collect();
        if !choices.is_empty() {
            return sample::select(choices).boxed();
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            let rest = without(schema, "allOf");
            let whole =
                parts.iter().filter_map(Value::as_object).fold(rest, |whole, part| merged(&whole, part));
            return self.value(&whole.into(), weight);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(branches) = schema.get(keyword).and_then(Value::as_array) {
                let rest = without(schema, keyword);
                let branches = branches.iter().filter_map(Value::as_object);
                let branches: Vec<Value> = branches.map(|branch| merged(&rest, branch).into()).collect();
                return union(branches.iter().map(|branch| self.value(branch, weight)).collect());
            }
        }
        match schema.get("type") {
            Some(Value::String(kind)) => self.of_type(kind, schema, weight),
            Some(Value::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Value::as_str);
                union(kinds.map(|kind| self.of_type(kind, schema, weight)).collect())
            }
            _ => match TELLING.iter().find(|(keyword, _)| schema.contains_key(*keyword)) {
                Some((_, kind)) => self.of_type(kind, schema, weight),
                None => anything(),
            },
        }
    }

    fn of_type(&mut self, kind: &str, schema: &Map<String, Value>, weight: usize) -> BoxedStrategy<Value> {
        match kind {
            "boolean" => bool::ANY.prop_map(Value::from).boxed(),
            "integer" => integer(schema),
            "number" => union(vec![integer(schema), number(schema)]),
            "string" => string(schema, weight),
            "array" => self.array(schema, weight),
            "object" => self.object(schema, weight),
            _ => Just(Value::Null).boxed(),
        }
    }

    fn array(&mut self, schema: &Map<String, Value>, weight: usize) -> BoxedStrategy<Value> {
        let Some((least, most)) = sizes(schema, "minItems", "maxItems", weight) else {
            return Just(Value::Null).boxed();
        };
        let inner = weight * most.max(1);
        let first: Vec<_> = list(schema, "prefixItems").map(|item| self.value(item, inner)).collect();
        let rest = self.value(schema.get("items").unwrap_or(&Value::Null), inner);
        let (least, most) = (least.saturating_sub(first.len()), most.saturating_sub(first.len()));
        let is_set = schema.get("uniqueItems") == Some(&Value::Bool(true));
        let items = (first, collection::vec(rest, least..=most)).prop_map(move |(mut items, rest)| {
            for item in rest {
                if !(is_set && items.contains(&item)) {
                    items.push(item);
                }
            }
            Value::from(items)
        });
        items.boxed()
    }

    fn object(&mut self, schema: &Map<String, Value>, weight: usize) -> BoxedStrategy<Value> {
        let required: Vec<&str> = list(schema, "required").filter_map(Value::as_str).collect();
        let known = schema.get("properties").and_then(Value::as_object);
        let known = known.into_iter().flatten();
        let (mut names, mut entries) = (Vec::new(), Vec::new());
        for (name, property) in known {
            let value = self.value(property, weight);
            let is_required = required.contains(&name.as_str());
            names.push(name.clone());
            entries.push(if is_required { value.prop_map(Some).boxed() } else { option::of(value).boxed() });
        }
        for name in required {
            if !names.iter().any(|known| known == name) {
                names.push(name.into());
                entries.push(anything().prop_map(Some).boxed());
            }
        }
        let with_names = move |entries: Vec<Option<Value>>| {
            let entries = names.iter().cloned().zip(entries);
            entries.filter_map(|(name, value)| Some((name, value?))).collect::<Map<_, _>>().into()
        };
        entries.prop_map(with_names).boxed()
    }
}

/// Keywords that tell the type where `type` is missing.
const TELLING: [(&str, &str); 10] = [
    ("properties", "object"),
    ("required", "object"),
    ("items", "array"),
    ("prefixItems", "array"),
    ("minItems", "array"),
    ("minLength", "string"),
    ("maxLength", "string"),
    ("pattern", "string"),
    ("minimum", "number"),
    ("maximum", "number"),
];

fn anything() -> BoxedStrategy<Value> {
    let empty = [Value::Object(Map::new()), Value::Array(vec![]), Value::Null, "".into(), "a".into()];
    let plain = sample::select(empty.to_vec());
    Union::new([
        plain.boxed(),
        bool::ANY.prop_map(Value::from).boxed(),
        (-3..=3i64).prop_map(Value::from).boxed(),
    ])
    .boxed()
}

fn union(branches: Vec<BoxedStrategy<Value>>) -> BoxedStrategy<Value> {
    if branches.is_empty() { Just(Value::Null).boxed() } else { Union::new(branches).boxed() }
}

fn list<'a>(schema: &'a Map<String, Value>, keyword: &str) -> impl Iterator<Item = &'a Value> {
    schema.get(keyword).and_then(Value::as_array).into_iter().flatten()
}

fn without(schema: &Map<String, Value>, keyword: &str) -> Map<String, Value> {
    let others = schema.iter().filter(|(key, _)| *key != keyword);
    others.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Two schemas that both hold, nearly: properties and required names together, of other keywords the second's.
fn merged(one: &Map<String, Value>, two: &Map<String, Value>) -> Map<String, Value> {
    let mut whole = one.clone();
    for (key, value) in two {
        match (whole.get_mut(key), value) {
            (Some(Value::Object(known)), Value::Object(more)) if key == "properties" => {
                known.extend(more.iter().map(|(name, property)| (name.clone(), property.clone())));
            }
            (Some(Value::Array(known)), Value::Array(more)) if key == "required" => {
                known.extend(more.iter().cloned());
            }
            _ => drop(whole.insert(key.clone(), value.clone())),
        }
    }
    whole
}

/// The numbers of items or characters to try, unless the least is more than one value may have.
fn sizes(schema: &Map<String, Value>, least: &str, most: &str, weight: usize) -> Option<(usize, usize)> {
    let bound = |keyword| schema.get(keyword).and_then(Value::as_f64).map(|bound| bound as usize);
    let least = bound(least).unwrap_or(0);
    let usual = least.saturating_add(MORE_ITEMS);
    let most = bound(most).map_or(usual, |most| most.min(usual));
    let room = WEIGHT_MAX / weight;
    (least <= most && least <= room).then_some((least, most.min(room)))
}

fn string(schema: &Map<String, Value>, weight: usize) -> BoxedStrategy<Value> {
    const CHARACTERS: [char; 14] =
        ['a', 'b', 'z', 'A', '0', '9', ' ', '-', '.', '"', '\n', 'é', '漢', '\u{1f600}'];
    let Some((least, most)) = sizes(schema, "minLength", "maxLength", weight) else {
        return Just(Value::Null).boxed();
    };
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str).filter(|pattern| is_simple(pattern))
    {
        let whole = pattern.strip_prefix('^').unwrap_or(pattern);
        let whole = whole.strip_suffix('$').unwrap_or(whole);
        if let Ok(text) = proptest::string::string_regex(whole) {
            return text.prop_map(Value::from).boxed();
        }
    }
    let text = collection::vec(sample::select(CHARACTERS.to_vec()), least..=most);
    text.prop_map(|characters| Value::from(characters.into_iter().collect::<String>())).boxed()
}

/// A pattern without repetitions inside repetitions: what matches is about as long as the pattern says.
fn is_simple(pattern: &str) -> bool {
    let repeats = |character: char| "*+?{}".contains(character);
    !pattern.contains('(')
        && !pattern.chars().zip(pattern.chars().skip(1)).any(|(one, two)| repeats(one) && repeats(two))
}

fn bound(schema: &Map<String, Value>, keyword: &str) -> Option<f64> {
    schema.get(keyword).and_then(Value::as_f64)
}

/// The smallest and the largest number, exclusive bounds counted as inclusive ones.
fn bounds(schema: &Map<String, Value>) -> (f64, f64) {
    let both = |one: Option<f64>, two: Option<f64>, choose: fn(f64, f64) -> f64| match (one, two) {
        (Some(one), Some(two)) => Some(choose(one, two)),
        (one, two) => one.or(two),
    };
    let least = both(bound(schema, "minimum"), bound(schema, "exclusiveMinimum"), f64::max);
    let most = both(bound(schema, "maximum"), bound(schema, "exclusiveMaximum"), f64::min);
    let (far, farthest) = (FAR as f64, FARTHEST as f64);
    let (least, most) = match (least, most) {
        (Some(least), Some(most)) => (least, most),
        (Some(least), None) => (least, least.max(0.0) + far),
        (None, Some(most)) => (most.min(0.0) - far, most),
        (None, None) => (-far, far),
    };
    (least.clamp(-farthest, farthest), most.clamp(-farthest, farthest))
}

/// Multiples of `step` in a range, with both ends; none in an empty one.
fn multiples(
    (least, most): (f64, f64),
    step: f64,
    value: impl Fn(i64) -> Value + Clone + 'static,
) -> BoxedStrategy<Value> {
    let (first, last) = ((least / step).ceil() as i64, (most / step).floor() as i64);
    if first > last {
        return Just(Value::Null).boxed();
    }
    let ends = sample::select(vec![first, last]);
    Union::new([ends.boxed(), (first..=last).boxed()]).prop_map(value).boxed()
}

fn integer(schema: &Map<String, Value>) -> BoxedStrategy<Value> {
    let step = bound(schema, "multipleOf").filter(|step| *step >= 1.0 && step.fract() == 0.0).unwrap_or(1.0);
    multiples(bounds(schema), step, move |times| Value::from(times.saturating_mul(step as i64)))
}

fn number(schema: &Map<String, Value>) -> BoxedStrategy<Value> {
    let (least, most) = bounds(schema);
    match bound(schema, "multipleOf") {
        // A division by the steps of a whole: 0.3 is 3 / 10 and not 3 * 0.1.
        Some(step) if step > 0.0 && step < 1.0 => {
            let whole = (1.0 / step).round();
            multiples((least, most), step, move |times| Value::from(times as f64 / whole))
        }
        Some(step) if step >= 1.0 => {
            multiples((least, most), step, move |times| Value::from(times as f64 * step))
        }
        _ if least < most => {
            let ends = sample::select(vec![least, most]);
            Union::new([ends.boxed(), (least..=most).boxed()]).prop_map(Value::from).boxed()
        }
        _ => Just(Value::from(least)).boxed(),
    }
}
