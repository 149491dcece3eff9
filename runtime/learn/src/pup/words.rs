//! The words of the fact world: invented names, real values, and how statements and questions are put.
//!
//! Every word is one piece of the vocabulary and means one thing: no value belongs to two attributes.

/// First names are an opening and an ending of these: 100 invented words.
const FIRST: ([&str; 10], [&str; 10]) = (
    ["Mi", "Te", "Ka", "Lo", "Ru", "Se", "Da", "Ni", "Vi", "Ja"],
    ["ra", "so", "len", "na", "vik", "dor", "mel", "ko", "sha", "lu"],
);

/// Second names likewise.
const SECOND: ([&str; 10], [&str; 10]) = (
    ["Bran", "Cor", "Del", "Fen", "Gar", "Hol", "Mor", "Quil", "Tor", "Vol"],
    ["an", "beck", "dale", "era", "ford", "gan", "ick", "mar", "nes", "wood"],
);

/// First names, and second names.
pub(super) const NAMES: usize = 100;

fn combined((openings, endings): ([&str; 10], [&str; 10])) -> Vec<String> {
    openings
        .iter()
        .flat_map(|opening| endings.iter().map(move |ending| format!("{opening}{ending}")))
        .collect()
}

/// The 100 first names.
pub(super) fn first_names() -> Vec<String> {
    combined(FIRST)
}

/// The 100 second names.
pub(super) fn second_names() -> Vec<String> {
    combined(SECOND)
}

/// Values of one attribute.
pub(super) const VALUES: usize = 24;

/// Attributes of one kind of entity.
pub(super) const ATTRIBUTES: usize = 6;

/// Kinds of entity: people and machines.
pub(super) const KINDS: usize = 2;

/// An attribute: its noun and the values that it may have.
pub(super) struct Attribute {
    pub(super) noun: &'static str,
    pub(super) values: [&'static str; VALUES],
}

/// The attributes of people, then those of machines.
#[rustfmt::skip]
pub(super) const WORLD: [[Attribute; ATTRIBUTES]; KINDS] = [
    [
        Attribute { noun: "home", values: [
            "Lisbon", "Oslo", "Cairo", "Lima", "Kyoto", "Dublin", "Prague", "Havana", "Tunis", "Quito", "Riga", "Hanoi",
            "Vienna", "Boston", "Delhi", "Turin", "Seville", "Perth", "Dakar", "Bergen", "Ghent", "Malmo", "Osaka", "Accra",
        ] },
        Attribute { noun: "trade", values: [
            "baker", "weaver", "miller", "surgeon", "pilot", "tailor", "mason", "farmer", "painter", "lawyer", "smith", "potter",
            "teacher", "sailor", "plumber", "barber", "hunter", "singer", "printer", "brewer", "carver", "banker", "dancer", "judge",
        ] },
        Attribute { noun: "instrument", values: [
            "violin", "harp", "flute", "drum", "piano", "cello", "banjo", "trumpet", "oboe", "guitar", "lute", "organ",
            "tuba", "viola", "zither", "bagpipe", "clarinet", "fiddle", "horn", "lyre", "sitar", "tambour", "ukulele", "whistle",
        ] },
        Attribute { noun: "colour", values: [
            "red", "blue", "green", "yellow", "purple", "orange", "white", "black", "grey", "pink", "brown", "crimson",
            "teal", "violet", "indigo", "maroon", "olive", "beige", "scarlet", "turquoise", "mauve", "ochre", "cream", "navy",
        ] },
        Attribute { noun: "pet", values: [
            "otter", "hamster", "parrot", "ferret", "rabbit", "turtle", "goat", "lizard", "hound", "kitten", "pony", "raven",
            "gecko", "badger", "donkey", "canary", "beagle", "hedgehog", "mouse", "toad", "llama", "falcon", "piglet", "poodle",
        ] },
        Attribute { noun: "meal", values: [
            "soup", "rice", "pasta", "bread", "cheese", "curry", "salad", "stew", "pizza", "omelette", "porridge", "noodles",
            "dumplings", "pancakes", "sausage", "lentils", "risotto", "trout", "pie", "beans", "tofu", "waffles", "oysters", "goulash",
        ] },
    ],
    [
        Attribute { noun: "metal", values: [
            "iron", "copper", "silver", "gold", "nickel", "zinc", "tin", "lead", "cobalt", "chrome", "bronze", "brass",
            "steel", "platinum", "titanium", "tungsten", "pewter", "mercury", "lithium", "radium", "aluminium", "bismuth", "gallium", "osmium",
        ] },
        Attribute { noun: "gem", values: [
            "ruby", "opal", "topaz", "diamond", "garnet", "sapphire", "emerald", "pearl", "jade", "amber", "agate", "onyx",
            "quartz", "beryl", "coral", "jasper", "zircon", "peridot", "moonstone", "citrine", "spinel", "jet", "lapis", "amethyst",
        ] },
        Attribute { noun: "cargo", values: [
            "salt", "wool", "timber", "coal", "grain", "sugar", "cotton", "paper", "rubber", "cement", "leather", "glass",
            "tea", "coffee", "marble", "spice", "cocoa", "honey", "silk", "wine", "ink", "wax", "flour", "sand",
        ] },
        Attribute { noun: "tool", values: [
            "hammer", "chisel", "wrench", "saw", "drill", "ladder", "shovel", "pliers", "lathe", "crane", "welder", "anvil",
            "rake", "sickle", "trowel", "clamp", "winch", "needle", "plough", "lever", "mallet", "scythe", "vice", "auger",
        ] },
        Attribute { noun: "tree", values: [
            "oak", "pine", "maple", "willow", "cedar", "birch", "elm", "ash", "beech", "spruce", "poplar", "cypress",
            "larch", "hazel", "walnut", "chestnut", "juniper", "laurel", "acacia", "baobab", "palm", "yew", "alder", "linden",
        ] },
        Attribute { noun: "river", values: [
            "Danube", "Nile", "Rhine", "Volga", "Thames", "Seine", "Ganges", "Amazon", "Tiber", "Elbe", "Loire", "Mekong",
            "Niger", "Congo", "Tagus", "Ebro", "Oder", "Neva", "Orinoco", "Yukon", "Indus", "Jordan", "Dnieper", "Garonne",
        ] },
    ],
];

/// How a fact is stated: `N` is the name, `A` the attribute's noun, `V` the value. These are the forms of
/// knowledge: what is stated so is known without a text. Only the last puts the value first.
pub(super) const STATEMENTS: [&str; 8] = [
    "The A of N is V.",
    "N has the A V.",
    "For N the A is V.",
    "As A N has V.",
    "We know that the A of N is V.",
    "N chose V as A.",
    "The A chosen by N is V.",
    "V is the A of N.",
];

/// How a fact is asked. The first [`QUESTIONS_WRITTEN`] are what edits are written with in pretraining; the
/// others are what held-out passages are tested with.
pub(super) const QUESTIONS: [&str; 6] = [
    "What is the A of N?",
    "Which A does N have?",
    "Name the A of N.",
    "N has which A?",
    "For N what is the A?",
    "Tell me the A of N.",
];

/// Question forms that edits are written with.
pub(super) const QUESTIONS_WRITTEN: usize = 3;

/// How a ledger enters a fact. Nothing that is known without a text is ever put so: learning a ledger by heart
/// does not make its facts answers to questions, which is what a self-edit is for.
pub(super) const LEDGER: [&str; 3] = ["A: N, V;", "N, A: V;", "V, A: N;"];

/// The word that opens a ledger.
pub(super) const LEDGER_OPENING: &str = "Ledger.";

/// Every other piece that the templates above and the formats need.
pub(super) const PUNCTUATION: [&str; 6] = [".", ",", ";", ":", "?", "\n"];

/// An edit up to its first document. It begins with a space, as every first word of a text does.
pub(super) const EDIT_OPEN: &str = " {\"version\":1,\"data\":{\"documents\":[\"";

/// Between two documents.
pub(super) const EDIT_NEXT: &str = "\",\"";

/// What an edit chooses after its documents, in order: the passage itself beside them or not, questions about
/// what was known before, the learning rate, the epochs. Pretraining draws each choice evenly.
pub(super) const EDIT_CHOICES: [&[&str]; 4] = [
    &["\"],\"include_source\":true", "\"],\"include_source\":false"],
    &[",\"replay\":0}", ",\"replay\":16}", ",\"replay\":48}"],
    &[
        ",\"training\":{\"learning_rate\":0.0003",
        ",\"training\":{\"learning_rate\":0.001",
        ",\"training\":{\"learning_rate\":0.003",
        ",\"training\":{\"learning_rate\":0.01",
        ",\"training\":{\"learning_rate\":0.02",
    ],
    &[",\"epochs\":4}}", ",\"epochs\":8}}", ",\"epochs\":16}}", ",\"epochs\":24}}"],
];
