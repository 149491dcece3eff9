//! From a Rust crate to a component: the library behind `selkie plugin build`.
//!
//! A build is reproducible: the same sources, lock file and compiler give the same bytes in any folder. So the
//! committed components can be checked by anyone with the recorded compiler ([`verify_dist`]).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use selkie_edit::PluginId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::component::digest;
use crate::error::ToolError;
use crate::host::{ToolHost, origin, read_bounded};
use crate::limits::Limits;
use crate::manifest::Manifest;

/// The target that plugins are built for: no operating system, so nothing to import.
const TARGET: &str = "wasm32-unknown-unknown";

/// Where Debian's package `rustc-web` puts a compiler that can build its own standard library for [`TARGET`],
/// and `rust-web-src` the library's sources.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library";

/// Names another compiler for the same purpose; its sources must lie in its sysroot.
const RUSTC_VARIABLE: &str = "SELKIE_WASM_RUSTC";

/// What builds a plugin that is not a crate.
const SCRIPT: &str = "build.sh";

/// The exit code of a script whose tools cannot be installed (`EX_UNAVAILABLE`).
const NO_TOOLS: i32 = 69;

/// A component that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    /// Where it lies.
    pub path: PathBuf,
    /// Who it says it is, with the SHA-256 of its bytes.
    pub plugin: PluginId,
    /// Its size.
    pub bytes: u64,
    /// The compiler, cargo, and the linker where it is not the compiler's own.
    pub toolchain: String,
}

/// What a component has to offer.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Who it says it is.
    pub plugin: PluginId,
    /// Its size.
    pub bytes: u64,
    /// Everything else that it says of itself.
    pub manifest: Manifest,
}

/// An entry of `plugins/dist/plugins.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistEntry {
    /// The plugin's name; the component is `NAME.wasm` beside the list, its crate `../NAME`.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// SHA-256 of the component.
    pub sha256: String,
    /// Size of the component.
    pub bytes: u64,
    /// The tools that made it.
    pub toolchain: String,
}

/// What building a committed component again showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// The recorded compiler gave the same bytes.
    Same(BuildReport),
    /// This machine has another compiler, so the bytes may differ: run the vectors through this one.
    OtherToolchain {
        /// The component that was built here.
        built: BuildReport,
        /// The compiler that made the committed one.
        recorded: String,
    },
}

/// Why a plugin was not built, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Nothing here compiles for WebAssembly.
    #[error(
        "no Rust compiler here builds for {TARGET}: run `rustup target add {TARGET}` (or, on Debian and Ubuntu, \
         `apt-get install rustc-web rust-web-src`)"
    )]
    NoToolchain,
    /// The compiler is there, its linker is not.
    #[error(
        "no linker for {TARGET} here: neither `rust-lld` of a rustup toolchain nor `wasm-ld` (package `lld`)"
    )]
    NoLinker,
    /// A program that does not start.
    #[error("cannot run `{program}`")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program that failed; it has told why on stderr.
    #[error("`{program}` failed")]
    Failed {
        /// The program and its command.
        program: String,
    },
    /// A script whose tools are not there and cannot be installed; it has told why on stderr.
    #[error("`{program}` cannot install its tools here (they come from a package registry the first time)")]
    NoTools {
        /// The script.
        program: String,
    },
    /// A folder that is not a plugin's.
    #[error("`{}`: {reason}", path.display())]
    Crate {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A core module that is no plugin: it does not use the SDK's `register!` or other bindings of the world.
    #[error("`{}` cannot become a component: {reason}", path.display())]
    Encode {
        /// The module.
        path: PathBuf,
        /// The encoder's words.
        reason: String,
    },
    /// A file that cannot be read or written.
    #[error("cannot access `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The component does not load.
    #[error("the component was built but does not load")]
    Load(#[from] ToolError),
    /// A list of components that does not parse or does not fit its files.
    #[error("`{}`: {reason}", path.display())]
    Dist {
        /// The list.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The recorded compiler gives other bytes: sources and component have come apart.
    #[error(
        "plugin {name}: `{toolchain}` builds {built}, committed is {committed}; build it again and commit it"
    )]
    Differs {
        /// The plugin.
        name: String,
        /// The compiler, the same for both.
        toolchain: String,
        /// SHA-256 of what was built.
        built: String,
        /// SHA-256 of what is committed.
        committed: String,
    },
}

/// Builds the plugin whose crate, or whose `build.sh`, is in `dir`. Without `out` the component lies in
/// `target/selkie`.
///
/// cargo's and the script's own messages go to stderr. The script is the author's: it runs with all that this program
/// may do.
///
/// # Errors
/// Without a usable compiler, when cargo fails, and when the component does not load.
pub fn build(dir: &Path, out: Option<&Path>) -> Result<BuildReport, BuildError> {
    let Component { path, toolchain } = component(dir, out)?;
    let CheckReport { plugin, bytes, .. } = check(&path)?;
    Ok(BuildReport { path, plugin, bytes, toolchain })
}

/// A component that nothing has looked at yet.
pub(crate) struct Component {
    pub(crate) path: PathBuf,
    pub(crate) toolchain: String,
}

/// Builds a plugin from its crate, or by its script.
pub(crate) fn component(dir: &Path, out: Option<&Path>) -> Result<Component, BuildError> {
    if !dir.join("Cargo.toml").is_file() && dir.join(SCRIPT).is_file() {
        return by_script(dir, out);
    }
    let toolchain = Toolchain::find()?;
    let krate = Crate::read(dir)?;
    toolchain.cargo_build(&krate)?;

    let module = krate.target_directory.join(TARGET).join("release").join(format!("{}.wasm", krate.library));
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        move |source| BuildError::File { path, source }
    };
    let core = std::fs::read(&module).map_err(unreadable(&module))?;
    let component = encode(&core).map_err(|reason| BuildError::Encode { path: module.clone(), reason })?;

    let path =
        out.map_or_else(|| krate.target_directory.join(format!("{}.wasm", krate.name)), Path::to_path_buf);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(unreadable(folder))?;
    }
    std::fs::write(&path, &component).map_err(unreadable(&path))?;
    Ok(Component { path, toolchain: toolchain.version })
}

/// Runs a plugin's own script, which is given a folder and leaves one component there.
fn by_script(dir: &Path, out: Option<&Path>) -> Result<Component, BuildError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| BuildError::File { path, source }
    };
    let dir = dir.canonicalize().map_err(at(dir))?;
    let folder = dir.join("target").join("selkie");
    std::fs::create_dir_all(&folder).map_err(at(&folder))?;
    for old in components(&folder).map_err(at(&folder))? {
        std::fs::remove_file(&old).map_err(at(&old))?;
    }
    let program = format!("bash {SCRIPT}");
    let run = |source| BuildError::Run { program: program.clone(), source };
    let mut script = Command::new("bash");
    // What it prints is for people, and our stdout may be for a program.
    script.arg(SCRIPT).arg(&folder).current_dir(&dir).stdout(Stdio::null());
    match script.status().map_err(run)?.code() {
        Some(0) => {}
        Some(NO_TOOLS) => return Err(BuildError::NoTools { program }),
        _ => return Err(BuildError::Failed { program }),
    }
    let made = components(&folder).map_err(at(&folder))?;
    let [path] = &made[..] else {
        let reason =
            format!("{SCRIPT} left {} components in the folder that it was given, not one", made.len());
        return Err(BuildError::Crate { path: dir, reason });
    };
    if let Some(out) = out {
        out.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(at(out))?;
        std::fs::copy(path, out).map_err(at(out))?;
    }
    Ok(Component { path: out.unwrap_or(path).to_path_buf(), toolchain: SCRIPT.into() })
}

fn components(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let paths = paths.collect::<std::io::Result<Vec<PathBuf>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|name| name == "wasm")).collect())
}

/// Loads a component as the host would, and tells what it has.
///
/// # Errors
/// Why the host would refuse it.
pub fn check(path: &Path) -> Result<CheckReport, ToolError> {
    let limits = Limits::default();
    let bytes = read_bounded(path, limits.component_bytes)?;
    let origin = origin(path);
    let host = ToolHost::of_components([(origin.as_str(), bytes.as_slice())], limits)?;
    let loaded = host.plugins().next().zip(host.manifests().next());
    let (plugin, manifest) = loaded.ok_or_else(|| ToolError::UnknownTool { tool: origin.clone() })?;
    Ok(CheckReport { plugin: plugin.clone(), bytes: bytes.len() as u64, manifest: manifest.clone() })
}

/// Makes a component of a core module that carries the world it is of (as wit-bindgen's guests do).
///
/// # Errors
/// The encoder's words.
pub fn encode(core: &[u8]) -> Result<Vec<u8>, String> {
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(core)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}

/// The committed components of a `dist` folder.
///
/// # Errors
/// When the list does not parse, or a component is not the one that it lists.
pub fn read_dist(dist: &Path) -> Result<Vec<DistEntry>, BuildError> {
    let list = dist.join("plugins.json");
    let file = |path: PathBuf| move |source| BuildError::File { path, source };
    let text = std::fs::read_to_string(&list).map_err(file(list.clone()))?;
    let wrong = |reason: String| BuildError::Dist { path: list.clone(), reason };
    let entries: Vec<DistEntry> = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    for entry in &entries {
        let path = dist.join(format!("{}.wasm", entry.name));
        let bytes = std::fs::read(&path).map_err(file(path))?;
        if digest(&bytes) != entry.sha256 || bytes.len() as u64 != entry.bytes {
            return Err(wrong(format!("{}.wasm is not the component that is listed", entry.name)));
        }
    }
    Ok(entries)
}

/// Builds every plugin of a `dist` folder from the crates beside it: component and manifest of each, and the
/// list of them.
///
/// # Errors
/// As [`build`].
pub fn write_dist(dist: &Path, names: &[&str]) -> Result<Vec<DistEntry>, BuildError> {
    let mut entries = Vec::new();
    for name in names {
        let component = dist.join(format!("{name}.wasm"));
        let report = build(&dist.join("..").join(name), Some(&component))?;
        write_json(&dist.join(format!("{name}.manifest.json")), &check(&component)?.manifest)?;
        entries.push(DistEntry {
            name: report.plugin.name,
            version: report.plugin.version,
            sha256: report.plugin.digest,
            bytes: report.bytes,
            toolchain: report.toolchain,
        });
    }
    write_json(&dist.join("plugins.json"), &entries)?;
    Ok(entries)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BuildError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| BuildError::Dist { path: path.into(), reason: error.to_string() })?;
    std::fs::write(path, text + "\n").map_err(|source| BuildError::File { path: path.into(), source })
}

/// Builds every committed component again and compares.
///
/// # Errors
/// As [`build`], and [`BuildError::Differs`] when the recorded compiler gives other bytes.
pub fn verify_dist(dist: &Path) -> Result<Vec<Verified>, BuildError> {
    let entries = read_dist(dist)?;
    let verify = |entry: DistEntry| {
        let built = build(&dist.join("..").join(&entry.name), None)?;
        if built.toolchain != entry.toolchain {
            return Ok(Verified::OtherToolchain { built, recorded: entry.toolchain });
        }
        if built.plugin.digest != entry.sha256 {
            return Err(BuildError::Differs {
                name: entry.name,
                toolchain: entry.toolchain,
                built: built.plugin.digest,
                committed: entry.sha256,
            });
        }
        Ok(Verified::Same(built))
    };
    entries.into_iter().map(verify).collect()
}

/// Whether plugins can be built here: the compiler's version, or what is missing.
///
/// # Errors
/// [`BuildError::NoToolchain`] or [`BuildError::NoLinker`].
pub fn toolchain() -> Result<String, BuildError> {
    Toolchain::find().map(|toolchain| toolchain.version)
}

/// A compiler for [`TARGET`].
struct Toolchain {
    /// The tools' versions, as [`BuildReport::toolchain`].
    version: String,
    sysroot: PathBuf,
    /// Set where the standard library must be built too.
    from_source: Option<FromSource>,
}

struct FromSource {
    rustc: PathBuf,
    linker: PathBuf,
}

impl Toolchain {
    fn find() -> Result<Toolchain, BuildError> {
        let rustc = Path::new("rustc");
        let installed = ask(rustc, &["--print", "target-libdir", "--target", TARGET])
            .is_some_and(|folder| Path::new(&folder).is_dir());
        if installed {
            return Toolchain::of(rustc, None).ok_or(BuildError::NoToolchain);
        }
        let named = std::env::var_os(RUSTC_VARIABLE).map(PathBuf::from);
        let debian = || Path::new(DEBIAN_SOURCES).is_dir().then(|| PathBuf::from(DEBIAN_RUSTC));
        let rustc = named.or_else(debian).filter(|rustc| rustc.is_file()).ok_or(BuildError::NoToolchain)?;
        let linker = find_linker().ok_or(BuildError::NoLinker)?;
        Toolchain::of(&rustc, Some(FromSource { rustc: rustc.clone(), linker }))
            .ok_or(BuildError::NoToolchain)
    }

    fn of(rustc: &Path, from_source: Option<FromSource>) -> Option<Toolchain> {
        // Everything that has a say in the bytes: cargo hashes crates, the linker orders them.
        let mut version = [ask(rustc, &["--version"])?, ask(Path::new("cargo"), &["--version"])?].join("; ");
        if let Some(FromSource { linker, .. }) = &from_source {
            version += "; ";
            version += &linker_version(linker)?;
        }
        let sysroot = ask(rustc, &["--print", "sysroot"])?.into();
        Some(Toolchain { version, sysroot, from_source })
    }

    /// The profile and the flags are given here and not in the plugin's `Cargo.toml`, so that every plugin is
    /// small, aborts on panic and is reproducible without its author doing anything for it.
    fn cargo_build(&self, krate: &Crate) -> Result<(), BuildError> {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(&krate.dir)
            .args(["build", "--release", "--lib", "--target", TARGET])
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(krate))
            .env("CARGO_PROFILE_RELEASE_LTO", "true")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_TARGET_DIR", &krate.target_directory)
            .env_remove("RUSTFLAGS")
            .stdout(Stdio::null());
        if krate.locked {
            cargo.arg("--locked");
        }
        if cfg!(unix) {
            cargo.env("RUSTC_WRAPPER", write_wrapper(&krate.target_directory)?);
        }
        if let Some(FromSource { rustc, linker }) = &self.from_source {
            cargo
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC", rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        let program = "cargo build".to_string();
        let status = cargo.status().map_err(|source| BuildError::Run { program: program.clone(), source })?;
        if status.success() { Ok(()) } else { Err(BuildError::Failed { program }) }
    }

    /// Flags that take this machine's folders out of the component: they would otherwise stand in the texts of
    /// panics.
    fn flags(&self, krate: &Crate) -> OsString {
        let mut flags = OsString::new();
        let mut remap = |from: &Path, to: &str| {
            if !flags.is_empty() {
                flags.push("\u{1f}");
            }
            flags.push("--remap-path-prefix=");
            flags.push(from);
            flags.push("=");
            flags.push(to);
        };
        // The last match counts, so from the general to the particular.
        remap(&self.sysroot.join("lib/rustlib/src/rust"), "/rust");
        remap(Path::new("/usr/lib/rustlib/src/rust"), "/rust");
        for registry in &krate.registries {
            remap(registry, "/registry");
        }
        for (name, folder) in &krate.local {
            remap(folder, &format!("/{name}"));
        }
        flags
    }
}

/// Calls the compiler with crates named by package and version.
///
/// cargo tells crates apart by a hash that, for a crate outside the workspace, contains its absolute folder (the
/// SDK is such a crate). The hash is part of every symbol, symbols decide the order of functions, and so the
/// folder would decide the component's bytes.
const WRAPPER: &str = r#"#!/bin/sh
for argument do
    shift
    case $argument in
        metadata=*) argument="metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION" ;;
    esac
    set -- "$@" "$argument"
done
exec "$@"
"#;

fn write_wrapper(folder: &Path) -> Result<PathBuf, BuildError> {
    let path = folder.join("rustc-wrapper.sh");
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, WRAPPER));
    #[cfg(unix)]
    let written = written.and_then(|()| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
    });
    written.map_err(|source| BuildError::File { path: path.clone(), source })?;
    Ok(path)
}

/// What a program prints, one line; `None` when it is missing or fails.
fn ask(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}

/// rustup's toolchains bring a linker for every target; LLVM's own package has it under another name.
fn find_linker() -> Option<PathBuf> {
    let rustc = Path::new("rustc");
    let sysroot = ask(rustc, &["--print", "sysroot"])?;
    let host = ask(rustc, &["--print", "host-tuple"])?;
    let bundled = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed =
        || std::env::split_paths(&path).map(|folder| folder.join("wasm-ld")).find(|p| p.is_file());
    if bundled.is_file() { Some(bundled) } else { installed() }
}

/// `rust-lld` is told which linker it is; `wasm-ld` knows by its name and refuses to be told.
fn linker_version(linker: &Path) -> Option<String> {
    ask(linker, &["-flavor", "wasm", "--version"]).or_else(|| ask(linker, &["--version"]))
}

/// The plugin's crate, as cargo sees it.
struct Crate {
    dir: PathBuf,
    /// The package's name.
    name: String,
    /// The library's file name.
    library: String,
    target_directory: PathBuf,
    /// Whether there is a lock file to keep to.
    locked: bool,
    /// Folders that hold the sources of registry crates.
    registries: Vec<PathBuf>,
    /// Packages on this machine, by name.
    local: Vec<(String, PathBuf)>,
}

impl Crate {
    fn read(dir: &Path) -> Result<Crate, BuildError> {
        let wrong = |reason: &str| BuildError::Crate { path: dir.into(), reason: reason.into() };
        let dir = dir.canonicalize().map_err(|source| BuildError::File { path: dir.into(), source })?;
        if !dir.join("Cargo.toml").is_file() {
            return Err(wrong("there is neither a Cargo.toml nor a build.sh"));
        }
        let program = "cargo metadata".to_string();
        let output = Command::new("cargo")
            .current_dir(&dir)
            .args(["metadata", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| BuildError::Run { program: program.clone(), source })?;
        if !output.status.success() {
            return Err(BuildError::Failed { program });
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .map_err(|error| wrong(&format!("cargo's metadata is not understood: {error}")))?;

        let manifest = dir.join("Cargo.toml");
        let own = metadata.packages.iter().find(|package| package.manifest_path == manifest);
        let own = own.ok_or_else(|| wrong("its Cargo.toml has no package"))?;
        let library =
            own.targets.iter().find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
        let library = library.ok_or_else(|| wrong("its library's crate-type has no \"cdylib\""))?;

        let (mut registries, mut local) = (Vec::new(), Vec::new());
        for package in &metadata.packages {
            let Some(folder) = package.manifest_path.parent() else { continue };
            match &package.source {
                // `registry/src/INDEX/CRATE`: the index's folder has a name of its own on every machine.
                Some(_) => registries.extend(folder.parent().map(Path::to_path_buf)),
                None => local.push((package.name.clone(), folder.to_path_buf())),
            }
        }
        registries.sort();
        registries.dedup();
        Ok(Crate {
            name: own.name.clone(),
            library: library.name.replace('-', "_"),
            locked: metadata.workspace_root.join("Cargo.lock").is_file(),
            // Apart from the author's own builds: cargo does not notice that they were made without the wrapper.
            target_directory: metadata.target_directory.join("selkie"),
            registries,
            local,
            dir,
        })
    }
}

/// The part of `cargo metadata` that is needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    source: Option<Value>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}
