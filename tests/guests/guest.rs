//! Guests that are made to misbehave, and what is asked of the host that meets them.

use std::sync::LazyLock;
use std::time::Instant;

use selkie_edit::{Example, Grid, PlannedCall, Submission, Task, TextSource, ToolKind};
use selkie_tools::grading::Pair;
use selkie_tools::{Grants, Limit, Limits, ToolError, ToolHost, Usage};
use wit_component::StringEncoding;

pub(crate) const GRID: &[u8] = include_bytes!("../../plugins/dist/grid.wasm");

/// A plugin that gives tasks back as they are, beside every hostile one.
pub(crate) static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    Guest::describing(Kind::Puzzle, manifest("good", r#""params":{"type":"object"}"#)).component()
});

/// Where a guest can write a line.
const LOG: &str = r#"(import "selkie:plugin/log@0.2.0" "write" (func $log (param i32 i32)))"#;

/// How a guest asks the host model: the texts' places and sizes, and where the result goes.
const MODEL: &str = r#"
    (import "selkie:plugin/host-model@0.2.0" "log-likelihood"
        (func $likelihood (param i32 i32 i32 i32 i32)))
    (import "selkie:plugin/host-model@0.2.0" "complete" (func $complete (param i32 i32 i32 i32)))"#;

/// What a guest is for, and the world that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Puzzles, in the world of version 0.1.
    Old,
    Puzzle,
    Text,
    Grader,
}

impl Kind {
    /// Those of version 0.2.
    pub(crate) const NEW: [Kind; 3] = [Kind::Puzzle, Kind::Text, Kind::Grader];

    fn template(self) -> String {
        let plugin = include_str!("plugin.wat");
        let tool = match self {
            Kind::Old => return include_str!("base.wat").into(),
            Kind::Puzzle => include_str!("puzzle.wat"),
            Kind::Text => include_str!("text.wat"),
            Kind::Grader => include_str!("grader.wat"),
        };
        plugin.replace(";;TOOL\n", tool)
    }

    fn world(self) -> (&'static str, &'static str) {
        match self {
            Kind::Old => ("since_v0.1.0", "puzzle-plugin"),
            Kind::Puzzle => ("since_v0.2.0", "puzzle-plugin"),
            Kind::Text => ("since_v0.2.0", "text-plugin"),
            Kind::Grader => ("since_v0.2.0", "grader-plugin"),
        }
    }

    fn tool(self) -> &'static str {
        match self {
            Kind::Old | Kind::Puzzle => r#""kind":"puzzle_augmenter","#,
            Kind::Text => r#""kind":"text_augmenter","#,
            Kind::Grader => r#""kind":"grader","takes":"answers","#,
        }
    }
}

/// A guest that does what it should, until it is changed.
#[derive(Clone)]
pub(crate) struct Guest {
    kind: Kind,
    manifest: String,
    marks: Vec<(&'static str, String)>,
    /// Packages and imports of its world beside ours.
    foreign: Option<(&'static str, &'static str)>,
}

impl Guest {
    pub(crate) fn good(kind: Kind) -> Guest {
        let manifest = manifest_of(kind, "evil", r#""params":{"type":"object"}"#);
        Guest { kind, manifest, marks: Vec::new(), foreign: None }
    }

    /// WebAssembly text at one of the marks of its source; what was there before stays before it.
    pub(crate) fn with(mut self, mark: &'static str, text: &str) -> Guest {
        match self.marks.iter_mut().find(|(known, _)| *known == mark) {
            Some((_, before)) => *before = format!("{before}\n{text}"),
            None => self.marks.push((mark, text.into())),
        }
        self
    }

    /// A good guest that runs this before it answers a call.
    pub(crate) fn calling(kind: Kind, text: &str) -> Guest {
        Guest::good(kind).with("CALL", text)
    }

    pub(crate) fn describing(kind: Kind, manifest: impl Into<String>) -> Guest {
        Guest::good(kind).saying(manifest)
    }

    /// With another manifest.
    pub(crate) fn saying(self, manifest: impl Into<String>) -> Guest {
        Guest { manifest: manifest.into(), ..self }
    }

    /// With the log as `$log`.
    pub(crate) fn logging(self) -> Guest {
        self.with("IMPORTS", LOG)
    }

    /// With the host model as `$likelihood` and `$complete`; its manifest does not ask.
    pub(crate) fn importing_the_model(self) -> Guest {
        self.with("IMPORTS", MODEL)
    }

    /// The same, and the manifest asks.
    pub(crate) fn asking(self) -> Guest {
        let manifest = self.manifest.replace(r#""tools""#, r#""asks":["host_model"],"tools""#);
        Guest { manifest, ..self }.importing_the_model()
    }

    /// With imports that no world of ours has: their packages, and the world's lines.
    pub(crate) fn importing(self, packages: &'static str, imports: &'static str) -> Guest {
        Guest { foreign: Some((packages, imports)), ..self }
    }

    pub(crate) fn component(&self) -> Vec<u8> {
        let escaped: String = self.manifest.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let mut text = (self.kind.template())
            .replace("MANIFEST_BYTES", &self.manifest.len().to_string())
            .replace("MANIFEST_TEXT", &escaped);
        for (mark, replacement) in &self.marks {
            let mark = format!(";;{mark}\n");
            assert!(text.contains(&mark), "no mark {mark}");
            text = text.replace(&mark, &format!("{replacement}\n"));
        }
        let mut core = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut resolve = wit_parser::Resolve::default();
        let (folder, mut world) = self.kind.world();
        let wit = format!("{}/../schemas/wit/{folder}", env!("CARGO_MANIFEST_DIR"));
        let (mut package, _) = resolve.push_dir(wit).expect("the interface");
        let packages;
        if let Some((foreign, imports)) = self.foreign {
            packages = format!(
                "package evil:guest;
                {foreign}
                world guest {{ include selkie:plugin/{world}@0.2.0; {imports} }}"
            );
            (package, world) = (resolve.push_str("guest.wit", &packages).expect("packages"), "guest");
        }
        let world = resolve.select_world(&[package], Some(world)).expect("the world");
        wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false)
            .expect("the world is embedded");
        selkie_tools::build::encode(&core).expect("a component")
    }

    pub(crate) fn host(&self, limits: Limits) -> ToolHost {
        self.host_with(limits, Grants::none())
    }

    pub(crate) fn host_with(&self, limits: Limits, grants: Grants) -> ToolHost {
        let component = self.component();
        ToolHost::of_components_with([("evil", component.as_slice()), ("good", &GOOD)], limits, grants)
            .expect("the guest loads")
    }

    /// The error of one call under these limits. Afterwards the host must still serve.
    pub(crate) fn call_error(&self, limits: Limits) -> ToolError {
        self.call_error_with(limits, Grants::none())
    }

    pub(crate) fn call_error_with(&self, limits: Limits, grants: Grants) -> ToolError {
        let host = self.host_with(limits, grants);
        let start = Instant::now();
        let error = self.call(&host).expect_err("a refused call");
        report(start, &error);
        assert_still_serving(&host);
        error
    }

    pub(crate) fn load_error(&self) -> ToolError {
        load_error(&self.component())
    }

    /// One call of its tool, and what that took.
    pub(crate) fn call(&self, host: &ToolHost) -> Result<Usage, ToolError> {
        let kind = match self.kind {
            Kind::Old | Kind::Puzzle => ToolKind::PuzzleAugmenter,
            Kind::Text => ToolKind::TextAugmenter,
            Kind::Grader => ToolKind::Grader,
        };
        call_tool(host, "evil.tool", kind)
    }
}

/// One small call of a tool, whichever its kind, and what that took.
pub(crate) fn call_tool(host: &ToolHost, tool: &str, kind: ToolKind) -> Result<Usage, ToolError> {
    let planned = planned(host, tool);
    match kind {
        ToolKind::PuzzleAugmenter => host.augment(&planned, &[task()]).map(|result| result.peak),
        ToolKind::TextAugmenter => host.write(&planned, &[source()]).map(|result| result.peak),
        ToolKind::Grader => host.compare(&planned, &[pair("12", "13")]).map(|result| result.peak),
    }
}

/// The manifest of a plugin with one tool, `NAME.tool`.
pub(crate) fn manifest_of(kind: Kind, name: &str, tool: &str) -> String {
    let kind = kind.tool();
    format!(
        r#"{{"manifest":1,"name":"{name}","version":"6.6.6","tools":[{{"name":"{name}.tool",{kind}"summary":"Evil.",{tool}}}]}}"#
    )
}

pub(crate) fn manifest(name: &str, tool: &str) -> String {
    manifest_of(Kind::Puzzle, name, tool)
}

/// The error of a component that does not load. Another host, made afterwards, must serve.
pub(crate) fn load_error(component: &[u8]) -> ToolError {
    let start = Instant::now();
    let error = ToolHost::of_components([("evil.wasm", component)], Limits::default()).expect_err("refused");
    report(start, &error);
    error
}

/// How long an attack took to end, for those who run the tests with `--nocapture`.
#[expect(clippy::print_stdout, reason = "the time to death is for people to read, and not asserted")]
pub(crate) fn report(start: Instant, error: &ToolError) {
    let test = std::thread::current();
    let (name, after) = (test.name().unwrap_or("?"), start.elapsed().as_secs_f64() * 1e3);
    println!("{name}: {after:.1} ms: {error}");
}

/// Which limit ended a call, and its value.
pub(crate) fn limit_of(error: &ToolError) -> (Limit, u64) {
    let ToolError::Limit(exceeded) = error else { panic!("no limit: {error}") };
    assert!(exceeded.used >= exceeded.max, "{error}");
    (exceeded.limit, exceeded.max)
}

pub(crate) fn task() -> Task {
    let grid = Grid::from_rows(&[vec![1, 2, 3], vec![4, 5, 6]]).expect("a grid");
    let example = Example { input: grid.clone(), output: grid };
    Task { train: vec![example.clone()], test: example }
}

pub(crate) fn source() -> TextSource {
    TextSource { title: "Seals".into(), text: "Seals swim.".into(), completions: vec!["They do.".into()] }
}

pub(crate) fn pair(answer: &str, reference: &str) -> Pair {
    Pair::Answers { answer: answer.into(), reference: reference.into() }
}

pub(crate) fn edit(documents: &[&str]) -> Submission {
    let documents = documents.iter().map(|&document| document.into()).collect();
    Submission::Edit { title: "Seals".into(), passage: "Seals swim.".into(), documents }
}

pub(crate) fn planned(host: &ToolHost, tool: &str) -> PlannedCall {
    let plugin = host.catalogue().get(tool).expect(tool).plugin.clone();
    PlannedCall { tool: tool.into(), plugin, params: "{}".into(), seed: 1 }
}

pub(crate) fn assert_still_serving(host: &ToolHost) {
    let made = host.augment(&planned(host, "good.tool"), &[task()]).expect("the good plugin still works");
    assert_eq!(made.made, [task()]);
}

/// A component with more in it: a core module, instantiated so many times. It is appended, so that what is there
/// keeps its numbers.
pub(crate) fn with_instances(component: &[u8], module: &str, copies: usize) -> Vec<u8> {
    let module = wat::parse_str(module).expect("a module");
    let index = sections_of(component, 1);
    let mut instances = leb(copies);
    for _ in 0..copies {
        instances.push(0);
        instances.extend(leb(index));
        instances.push(0);
    }
    [component.to_vec(), section(1, &module), section(2, &instances)].concat()
}

pub(crate) fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], leb(content.len()), content.to_vec()].concat()
}

/// An unsigned number as WebAssembly writes it.
pub(crate) fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

/// How many sections of a kind a component has at its top level: each core module and each component is one.
pub(crate) fn sections_of(component: &[u8], id: u8) -> usize {
    let (mut at, mut found) = (8, 0);
    while at < component.len() {
        found += usize::from(component[at] == id);
        at += 1;
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = component[at];
            at += 1;
            size |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += size;
    }
    found
}
