//! From bytes to a loaded plugin: everything that is checked before a tool may run.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use selkie_edit::PluginId;
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, InstancePre, Linker};

use crate::call::{self, Callee, Done};
use crate::compile::Compiler;
use crate::contract::{self, Contract, Needs, Version};
use crate::error::{ToolError, scrub};
use crate::host::HostOptions;
use crate::limits::{ERROR_BYTES_MAX, Limit, Limits};
use crate::manifest::{Capability, Manifest};
use crate::model::{MissingKey, ModelAccess};
use crate::native::{NativeError, NativeLimits, NativePlugin};
use crate::state::State;
use crate::work::Batch;

/// The world that plugins are of, for errors.
const WORLD: &str = "selkie:plugin/puzzle-plugin, text-plugin or grader-plugin";

/// A compiled component whose imports are there and whose exports have been found.
pub(crate) struct Linked {
    pub(crate) pre: InstancePre<State>,
    pub(crate) contract: Contract,
    /// What it imports, by name.
    pub(crate) imports: Vec<String>,
}

/// A plugin that may be called.
pub(crate) struct Plugin {
    pub(crate) id: PluginId,
    /// As errors name it.
    pub(crate) label: String,
    pub(crate) manifest: Manifest,
    code: Code,
}

enum Code {
    Ready(Linked),
    /// A shared library, each call in a process of its own.
    Native(NativePlugin),
    /// Compiled at its first call: most commands have no use for most built-in plugins.
    Built {
        bytes: &'static [u8],
        ready: OnceLock<Linked>,
    },
}

impl Plugin {
    /// One batch, held to what every answer must be.
    pub(crate) fn run(
        &self,
        compiler: &Compiler,
        limits: &Limits,
        batch: &Batch<'_>,
        model: ModelAccess,
    ) -> Result<Done, ToolError> {
        if let Code::Native(native) = &self.code {
            return call::run_native(native, &self.label, limits, batch);
        }
        let linked = self.linked(compiler)?;
        Callee { clocked: &compiler.clocked, linked, plugin: &self.label, limits }.run(batch, model)
    }

    /// What the component imports, by name.
    pub(crate) fn imports(&self, compiler: &Compiler) -> Result<Vec<String>, ToolError> {
        match &self.code {
            Code::Native(_) => Ok(Vec::new()),
            Code::Ready(_) | Code::Built { .. } => Ok(self.linked(compiler)?.imports.clone()),
        }
    }

    /// The version of the interface that the component was made for.
    pub(crate) fn contract(&self, compiler: &Compiler) -> Result<Option<&'static str>, ToolError> {
        match &self.code {
            Code::Native(_) => Ok(None),
            Code::Ready(_) | Code::Built { .. } => Ok(Some(self.linked(compiler)?.contract.version())),
        }
    }

    /// The component, compiled.
    fn linked(&self, compiler: &Compiler) -> Result<&Linked, ToolError> {
        match &self.code {
            Code::Ready(linked) => Ok(linked),
            Code::Native(_) => Err(ToolError::Engine { reason: "a library is no component".into() }),
            Code::Built { bytes, ready } => match ready.get() {
                Some(linked) => Ok(linked),
                // Two first calls at once compile twice, and one of the results is kept.
                None => {
                    let linked = link(compiler, &self.label, bytes)?;
                    Ok(ready.get_or_init(|| linked))
                }
            },
        }
    }

    /// Whether it asks for the host model.
    pub(crate) fn asks_for_model(&self) -> bool {
        self.manifest.asks.contains(&Capability::HostModel)
    }
}

/// A component of this binary, with the manifest that it gave when it was built (a test compares them).
pub(crate) fn built_in(name: &str, bytes: &'static [u8], manifest: &str) -> Result<Plugin, ToolError> {
    let manifest =
        Manifest::parse(manifest).map_err(|problem| ToolError::Manifest { plugin: name.into(), problem })?;
    Ok(plugin(manifest, bytes, Code::Built { bytes, ready: OnceLock::new() }))
}

fn plugin(manifest: Manifest, bytes: &[u8], code: Code) -> Plugin {
    let (name, version) = (manifest.name.clone(), manifest.version.clone());
    let id = PluginId { name, version, digest: digest(bytes) };
    Plugin { label: id.to_string(), id, manifest, code }
}

/// SHA-256 as 64 hex digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Loads a component. `origin` names it until it has said who it is.
pub(crate) fn load(
    compiler: &Compiler,
    limits: &Limits,
    origin: &str,
    bytes: &[u8],
) -> Result<Plugin, ToolError> {
    let origin = &scrub(origin, ERROR_BYTES_MAX);
    if bytes.len() > limits.component_bytes {
        return Err(ToolError::limit(
            origin,
            "loading",
            Limit::ComponentBytes,
            limits.component_bytes as u64,
            bytes.len() as u64,
        ));
    }
    let linked = link(compiler, origin, bytes)?;
    let callee = Callee { clocked: &compiler.clocked, linked: &linked, plugin: origin, limits };
    let until = Instant::now() + limits.deadline;
    let text = callee.describe(ModelAccess::none(until), |found| wrong_world(origin, found))?;
    let manifest =
        Manifest::parse(&text).map_err(|problem| ToolError::Manifest { plugin: origin.clone(), problem })?;
    let imports_model = linked.imports.iter().any(|name| contract::needs(name) == Needs::TwoKeys);
    let plugin = plugin(manifest, bytes, Code::Ready(linked));
    if imports_model && !plugin.asks_for_model() {
        return Err(ToolError::NotGranted { plugin: plugin.label, missing: MissingKey::Manifest });
    }
    Ok(plugin)
}

/// Loads a shared library that the operator lists by its digest.
pub(crate) fn load_native(options: &HostOptions, path: &Path) -> Result<Plugin, ToolError> {
    let origin = format!("`{}`", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy());
    let failed = |source: NativeError| call::native_error(&origin, "loading", source);
    let worker = options.worker.as_ref().ok_or_else(|| failed(NativeError::Unsupported))?;
    let limits = NativeLimits { deadline: options.limits.deadline, ..NativeLimits::default() };
    let native = NativePlugin::load(path, &options.native, worker, &limits).map_err(failed)?;
    let text = native.describe().map_err(|source| call::native_error(&origin, "`describe`", source))?;
    let manifest =
        Manifest::parse(&text).map_err(|problem| ToolError::Manifest { plugin: origin.clone(), problem })?;
    let (name, version) = (manifest.name.clone(), manifest.version.clone());
    let id = PluginId { name, version, digest: native.digest().to_owned() };
    if !manifest.asks.is_empty() {
        return Err(ToolError::NotGranted { plugin: id.to_string(), missing: MissingKey::Native });
    }
    Ok(Plugin { label: id.to_string(), id, manifest, code: Code::Native(native) })
}

/// What a component shows without being run: everything that it imports, and the version of the interface that it
/// was made for, if it is of any.
pub(crate) fn read(
    compiler: &Compiler,
    origin: &str,
    bytes: &[u8],
) -> Result<(Vec<String>, Option<String>), ToolError> {
    let (engine, component) = (&compiler.clocked.engine, parse(compiler, origin, bytes)?);
    let version = match Version::of(engine, &component) {
        Version::V0_1 => Some("0.1".to_owned()),
        Version::V0_2 => Some("0.2".to_owned()),
        Version::Other(found) => Some(scrub(&found, ERROR_BYTES_MAX)),
        Version::None(_) => None,
    };
    Ok((contract::imports(engine, &component), version))
}

/// Compiles a component.
fn parse(compiler: &Compiler, origin: &str, bytes: &[u8]) -> Result<Component, ToolError> {
    let refuse = |reason: &str| ToolError::NotAComponent { plugin: origin.into(), reason: reason.into() };
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Err(refuse("a core module; `selkie plugin build` makes a component of it"));
    }
    // Only the binary form: wasmtime would also take text, and native code is never taken from outside.
    if !bytes.starts_with(b"\0asm") {
        return Err(refuse("it does not start like WebAssembly"));
    }
    compiler.component(origin, bytes)
}

/// Gives a component what it may import, and finds its exports.
fn link(compiler: &Compiler, origin: &str, bytes: &[u8]) -> Result<Linked, ToolError> {
    let engine = &compiler.clocked.engine;
    let component = parse(compiler, origin, bytes)?;
    let mut linker = Linker::new(engine);
    let shown = |error: wasmtime::Error| scrub(&format!("{error:#}"), ERROR_BYTES_MAX);
    let unknown =
        contract::link(engine, &component, &mut linker).map_err(|error| wrong_world(origin, shown(error)))?;
    if !unknown.is_empty() {
        let imports = unknown.iter().map(|name| scrub(name, ERROR_BYTES_MAX)).collect();
        return Err(ToolError::Imports { plugin: origin.into(), imports });
    }
    let version = Version::of(engine, &component);
    let pre = linker.instantiate_pre(&component).map_err(|error| wrong_world(origin, shown(error)))?;
    let contract = match (Contract::find(&version, &pre), version) {
        (Some(contract), _) => contract.map_err(|error| wrong_world(origin, shown(error)))?,
        (None, Version::Other(found)) => {
            let found = scrub(&found, ERROR_BYTES_MAX);
            return Err(ToolError::UnsupportedContract {
                plugin: origin.into(),
                found,
                supported: contract::SUPPORTED,
            });
        }
        (None, Version::None(exports)) => return Err(wrong_world(origin, exported(&exports))),
        (None, Version::V0_1 | Version::V0_2) => return Err(wrong_world(origin, String::new())),
    };
    let imports = contract::imports(engine, &component);
    Ok(Linked { pre, contract, imports })
}

fn exported(exports: &[String]) -> String {
    let found = if exports.is_empty() { "nothing".into() } else { exports.join(", ") };
    scrub(&format!("it exports {found}"), ERROR_BYTES_MAX)
}

fn wrong_world(origin: &str, found: String) -> ToolError {
    ToolError::WrongWorld { plugin: origin.into(), expected: WORLD, found }
}
