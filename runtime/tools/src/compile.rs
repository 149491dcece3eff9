//! Compilation: by a process that can be killed, once for each component.
//!
//! wasmtime does not bound the time that a component takes to compile, and a thread cannot be ended; so a process
//! of this program compiles ([`crate::worker`]). Without one (a program that embeds the host and names no worker)
//! a thread does: at the deadline the host goes on and refuses the component, but the thread works to its end.
//!
//! What was compiled is kept under the component's digest, the version and configuration of the compiler, in a
//! folder that belongs to this user alone. It is native code: whoever can write there can run code as this user. A
//! folder that others can write to is not used, and compiled code is never taken from anywhere else.

use std::fs;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wasmtime::component::Component;

use crate::component::digest;
use crate::engine::{Clocked, millis};
use crate::error::{ToolError, scrub};
use crate::host::HostOptions;
use crate::laws::BrokenLaw;
use crate::limits::{ERROR_BYTES_MAX, Limit};
use crate::worker::{CompileError, Worker};

/// Bytes of a digest at the head of a kept file, by which damage is seen.
const HEAD: usize = 64;

/// Compiles components for one engine.
#[derive(Clone)]
pub(crate) struct Compiler {
    pub(crate) clocked: Clocked,
    /// Where compiled code is kept, if anywhere.
    pub(crate) cache: Option<PathBuf>,
    /// The program that compiles, if it is another process.
    pub(crate) worker: Option<Worker>,
    /// How long that may take.
    pub(crate) deadline: Duration,
}

impl Compiler {
    pub(crate) fn new(options: &HostOptions) -> Result<Compiler, ToolError> {
        let HostOptions { cache, worker, limits, .. } = options.clone();
        Ok(Compiler { clocked: Clocked::new()?, cache, worker, deadline: limits.compile })
    }

    /// The component, as code for this machine.
    pub(crate) fn component(&self, origin: &str, bytes: &[u8]) -> Result<Component, ToolError> {
        let kept =
            self.cache.as_deref().filter(|folder| is_ours(folder)).map(|folder| self.file(folder, bytes));
        if let Some(component) = kept.as_deref().and_then(|file| self.read(file)) {
            return Ok(component);
        }
        let refuse = |reason: &str| ToolError::NotAComponent {
            plugin: origin.into(),
            reason: scrub(reason, ERROR_BYTES_MAX),
        };
        let Some(worker) = &self.worker else {
            let component = self.compiled_here(bytes).ok_or_else(|| self.overdue(origin))?;
            let component = component.map_err(|error| refuse(&format!("{error:#}")))?;
            if let (Some(file), Ok(code)) = (kept, component.serialize()) {
                keep(&file, &code);
            }
            return Ok(component);
        };
        let code = worker.compile(bytes, self.deadline).map_err(|error| match error {
            CompileError::Refused(reason) => refuse(&reason),
            CompileError::Deadline => self.overdue(origin),
            CompileError::Worker(reason) => {
                ToolError::Engine { reason: format!("the process that compiles {reason}") }
            }
        })?;
        let component = self.load(&code).ok_or_else(|| refuse("what was compiled does not load"))?;
        if let Some(file) = kept {
            keep(&file, &code);
        }
        Ok(component)
    }

    /// The laws that tools of a component were found to break, by earlier hosts with this cache.
    pub(crate) fn quarantined(&self, digest: &str) -> Vec<BrokenLaw> {
        let kept = || {
            let folder = self.cache.as_deref()?;
            let text = fs::read(folder.join(format!("{digest}.quarantine.json"))).ok()?;
            is_ours(folder).then_some(text)
        };
        kept().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Remembers a broken law for as long as the component is the same and the cache is there.
    pub(crate) fn quarantine(&self, digest: &str, broken: &BrokenLaw) {
        let Some(folder) = self.cache.as_deref().filter(|folder| is_ours(folder)) else { return };
        let mut all = self.quarantined(digest);
        all.retain(|known| known.tool != broken.tool);
        all.push(broken.clone());
        // Without a disk the tool is still not called by this host.
        let _ = serde_json::to_vec(&all)
            .map(|text| fs::write(folder.join(format!("{digest}.quarantine.json")), text));
    }

    fn overdue(&self, origin: &str) -> ToolError {
        let max = millis(self.deadline);
        ToolError::limit(origin, "compilation", Limit::CompileMs, max, max)
    }

    /// What the compiler says, unless the deadline passes first.
    fn compiled_here(&self, bytes: &[u8]) -> Option<wasmtime::Result<Component>> {
        let (engine, bytes) = (self.clocked.engine.clone(), bytes.to_vec());
        let (sender, receiver) = mpsc::channel();
        let work = move || {
            // Nobody listens any more when the deadline has passed.
            let _ = sender.send(Component::new(&engine, bytes));
        };
        match thread::Builder::new().name("selkie-compiler".into()).spawn(work) {
            Ok(_) => receiver.recv_timeout(self.deadline).ok(),
            Err(error) => Some(Err(error.into())),
        }
    }

    /// `DIGEST-CONFIGURATION.cwasm`.
    fn file(&self, folder: &Path, bytes: &[u8]) -> PathBuf {
        // A hasher without a secret: the number is part of a file's name.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let configuration = hasher.hash_one(self.clocked.engine.precompile_compatibility_hash());
        folder.join(format!("{}-{configuration:016x}.cwasm", digest(bytes)))
    }

    fn read(&self, file: &Path) -> Option<Component> {
        let kept = fs::read(file).ok()?;
        let (head, code) = kept.split_at_checked(HEAD)?;
        if digest(code).as_bytes() != head {
            return None;
        }
        self.load(code)
    }

    fn load(&self, code: &[u8]) -> Option<Component> {
        #[expect(unsafe_code, reason = "compiled code is taken from our own worker and our own folder alone")]
        // SAFETY: the bytes are what `Component::serialize` or `precompile_component` gave: in a process of this
        // program, or kept in a folder that only this user can write to, whole by their digest.
        unsafe {
            Component::deserialize(&self.clocked.engine, code).ok()
        }
    }
}

/// Makes the folder if need be, and tells whether it belongs to this user and nobody else can write to it.
#[cfg(unix)]
fn is_ours(folder: &Path) -> bool {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let Ok(found) = fs::symlink_metadata(folder) else { return false };
    // Whose files are ours shows by making one.
    let probe = folder.join(format!(".owner-{}", std::process::id()));
    let ours = fs::File::create(&probe).and_then(|file| file.metadata()).map(|ours| ours.uid());
    let _ = fs::remove_file(&probe);
    found.is_dir() && found.mode() & 0o077 == 0 && ours.is_ok_and(|uid| uid == found.uid())
}

/// Elsewhere nobody knows who can write where.
#[cfg(not(unix))]
fn is_ours(_: &Path) -> bool {
    false
}

/// Keeps compiled code. A disk that is full or slow costs the next start some time, and nothing else.
fn keep(file: &Path, code: &[u8]) {
    let temporary = file.with_extension(format!("{}.part", std::process::id()));
    let written = fs::File::create(&temporary)
        .and_then(|mut to| to.write_all(digest(code).as_bytes()).and_then(|()| to.write_all(code)))
        .and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn compiler(cache: &Path) -> Compiler {
        Compiler {
            clocked: Clocked::new().expect("an engine"),
            cache: Some(cache.into()),
            worker: None,
            deadline: Duration::from_secs(60),
        }
    }

    #[test]
    fn compiled_code_is_kept_and_damage_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("cache");
        let compiler = compiler(&cache);
        let file = compiler.file(&cache, EMPTY);
        assert!(compiler.read(&file).is_none());
        compiler.component("empty", EMPTY).expect("it compiles");
        compiler.read(&file).expect("it is kept");
        let mut kept = fs::read(&file).expect("a file");
        for at in [0, HEAD, kept.len() / 2, kept.len() - 1] {
            kept[at] ^= 1;
            fs::write(&file, &kept).expect("a damaged file");
            assert!(compiler.read(&file).is_none(), "byte {at}");
            compiler.component("empty", EMPTY).expect("it is compiled again");
            kept = fs::read(&file).expect("a file");
        }
        fs::write(&file, &kept[..HEAD - 1]).expect("a short file");
        compiler.component("empty", EMPTY).expect("it is compiled again");
        compiler.read(&file).expect("it is kept again");
    }

    #[test]
    fn a_folder_that_others_can_enter_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("cache");
        assert!(is_ours(&cache));
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).expect("a mode");
        assert!(!is_ours(&cache));
        compiler(&cache).component("empty", EMPTY).expect("it compiles all the same");
        assert_eq!(fs::read_dir(&cache).expect("a folder").count(), 0);
    }

    #[test]
    fn a_quarantine_is_believed_only_from_our_own_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("cache");
        let compiler = compiler(&cache);
        let broken: BrokenLaw = serde_json::from_str(
            r#"{"law":"shape","tool":"a.b","params":"{}","seed":0,"input":"[]","found":"It grew."}"#,
        )
        .expect("a broken law");
        compiler.quarantine("digest", &broken);
        assert_eq!(compiler.quarantined("digest"), [broken]);
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).expect("a mode");
        assert_eq!(compiler.quarantined("digest"), []);
    }

    #[test]
    fn without_a_worker_the_host_does_not_wait_longer_than_the_deadline_either() {
        let slow = include_bytes!("../hostile/slow_to_compile.wasm");
        let here = Compiler {
            deadline: Duration::from_millis(50),
            cache: None,
            ..compiler(Path::new("/nonexistent"))
        };
        let error = here.component("slow", slow).map(drop).expect_err("it takes seconds");
        assert_eq!(
            error.to_string(),
            "plugin slow, compilation: stopped by the limit compile_ms: 50 used, 50 allowed"
        );
    }
}
