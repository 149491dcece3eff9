//! From bytes to a loaded plugin: everything that is checked before a tool may run.

use std::sync::OnceLock;

use selkie_edit::PluginId;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use crate::bindings::PuzzlePluginPre;
use crate::call::Callee;
use crate::error::{ToolError, scrub};
use crate::limiter::Limiter;
use crate::limits::{ERROR_BYTES_MAX, Limits};
use crate::manifest::Manifest;

/// The world that plugins are of.
const WORLD: &str = "selkie:plugin/puzzle-plugin@0.1.0";

/// What a component of that world exports.
const EXPORTS: [&str; 2] = ["selkie:plugin/manifest@0.1.0", "selkie:plugin/puzzle-augmenter@0.1.0"];

/// A plugin that may be called.
pub(crate) struct Plugin {
    pub(crate) id: PluginId,
    /// As errors name it.
    pub(crate) label: String,
    pub(crate) manifest: Manifest,
    pre: Pre,
}

/// The compiled component.
enum Pre {
    Ready(PuzzlePluginPre<Limiter>),
    /// Compiled at its first call. Compiling the built-in plugin takes 0.3 s of a core, which most commands have
    /// no use for.
    Built {
        bytes: &'static [u8],
        ready: OnceLock<PuzzlePluginPre<Limiter>>,
    },
}

impl Plugin {
    /// The component, compiled.
    pub(crate) fn pre(&self, engine: &Engine) -> Result<&PuzzlePluginPre<Limiter>, ToolError> {
        match &self.pre {
            Pre::Ready(pre) => Ok(pre),
            Pre::Built { bytes, ready } => match ready.get() {
                Some(pre) => Ok(pre),
                // Two first calls at once compile twice, and one of the results is kept.
                None => {
                    let pre = compile(engine, &self.label, bytes)?;
                    Ok(ready.get_or_init(|| pre))
                }
            },
        }
    }
}

/// A component of this binary, with the manifest that it gave when it was built (a test compares them).
pub(crate) fn built_in(name: &str, bytes: &'static [u8], manifest: &str) -> Result<Plugin, ToolError> {
    let manifest =
        Manifest::parse(manifest).map_err(|problem| ToolError::Manifest { plugin: name.into(), problem })?;
    Ok(plugin(manifest, bytes, Pre::Built { bytes, ready: OnceLock::new() }))
}

fn plugin(manifest: Manifest, bytes: &[u8], pre: Pre) -> Plugin {
    let (name, version) = (manifest.name.clone(), manifest.version.clone());
    let id = PluginId { name, version, digest: digest(bytes) };
    Plugin { label: id.to_string(), id, manifest, pre }
}

/// SHA-256 as 64 hex digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Loads a component. `origin` names it until it has said who it is.
pub(crate) fn load(
    engine: &Engine,
    limits: &Limits,
    origin: &str,
    bytes: &[u8],
) -> Result<Plugin, ToolError> {
    let origin = &scrub(origin, ERROR_BYTES_MAX);
    if bytes.len() > limits.component_bytes {
        return Err(ToolError::ComponentTooLarge { plugin: origin.clone(), max: limits.component_bytes });
    }
    let pre = compile(engine, origin, bytes)?;
    let callee = Callee { engine, pre: &pre, plugin: origin, limits };
    let text = callee.describe(|found| wrong_world(origin, found))?;
    let manifest =
        Manifest::parse(&text).map_err(|problem| ToolError::Manifest { plugin: origin.clone(), problem })?;
    Ok(plugin(manifest, bytes, Pre::Ready(pre)))
}

/// Compiles a component that imports nothing and is of the right world.
fn compile(engine: &Engine, origin: &str, bytes: &[u8]) -> Result<PuzzlePluginPre<Limiter>, ToolError> {
    let refuse = |reason: &str| ToolError::NotAComponent { plugin: origin.into(), reason: reason.into() };
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Err(refuse("a core module; `selkie plugin build` makes a component of it"));
    }
    // Only the binary form: wasmtime would also take text, and native code is never taken from outside.
    if !bytes.starts_with(b"\0asm") {
        return Err(refuse("it does not start like WebAssembly"));
    }
    let component = Component::new(engine, bytes)
        .map_err(|error| refuse(&scrub(&format!("{error:#}"), ERROR_BYTES_MAX)))?;
    let imports = imports(engine, &component);
    if !imports.is_empty() {
        return Err(ToolError::Imports { plugin: origin.into(), imports });
    }
    if let Some(found) = missing_exports(engine, &component) {
        return Err(wrong_world(origin, found));
    }
    Linker::new(engine)
        .instantiate_pre(&component)
        .and_then(PuzzlePluginPre::new)
        .map_err(|error| wrong_world(origin, scrub(&format!("{error:#}"), ERROR_BYTES_MAX)))
}

fn wrong_world(origin: &str, found: String) -> ToolError {
    ToolError::WrongWorld { plugin: origin.into(), expected: WORLD, found }
}

/// The names of everything that the host would have to give. An instance that holds only types (the shared
/// records) is a name for them and gives nothing.
fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    let types_only = |item: &ComponentItem| match item {
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).all(|(_, export)| matches!(export.ty, ComponentItem::Type(_)))
        }
        ComponentItem::Type(_) => true,
        _ => false,
    };
    let component = component.component_type();
    let asked = component.imports(engine).filter(|(_, import)| !types_only(&import.ty));
    asked.map(|(name, _)| scrub(name, ERROR_BYTES_MAX)).collect()
}

/// What is not exported, and what is instead.
fn missing_exports(engine: &Engine, component: &Component) -> Option<String> {
    let component = component.component_type();
    let found: Vec<&str> = component.exports(engine).map(|(name, _)| name).collect();
    let missing: Vec<&str> = EXPORTS.into_iter().filter(|name| !found.contains(name)).collect();
    if missing.is_empty() {
        return None;
    }
    let found = if found.is_empty() { "nothing".into() } else { found.join(", ") };
    Some(scrub(&format!("it does not export {}; it exports {found}", missing.join(" and ")), ERROR_BYTES_MAX))
}
