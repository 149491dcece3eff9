//! The child's side: it confines itself, loads the library, makes one call and ends.
//!
//! Its stdin is the library, its stdout a socket to the parent, its stderr the log. Before the library is loaded,
//! stdin becomes empty and stdout the log, so that nothing that the library prints gets into the answer.

use std::error::Error;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use super::abi::{self, ABI_VERSION, Apply, CCall, CExample, CGrid, CHost, CTask, CText};
use super::limits;
use super::reply::Fault;
use super::wire::{
    self, DOCUMENT, DONE, FAULT, MANIFEST, Owned, REFUSAL, Request, SCORE, TASK, put_bytes, put_number,
};

/// Does what the parent asks, once.
pub(crate) fn serve() -> ExitCode {
    match prepare() {
        Ok((request, library, socket)) => {
            let mut answer = Frames(BufWriter::new(socket));
            match run(&request, library, &mut answer) {
                Ok(()) => answer.frame(DONE, &[]),
                Err((fault, text)) => {
                    let mut content = Vec::new();
                    put_number(&mut content, fault as usize);
                    put_bytes(&mut content, text.as_bytes());
                    answer.frame(FAULT, &content);
                }
            }
            answer.finish()
        }
        Err(error) => {
            eprintln!("this is a part of selkie that selkie itself starts: {error}");
            ExitCode::from(2)
        }
    }
}

/// What the parent sent, with the streams put where the library cannot disturb the answer.
fn prepare() -> io::Result<(Request, OwnedFd, File)> {
    super::os::tie_to_parent()?;
    super::os::close_inherited()?;
    let library = io::stdin().as_fd().try_clone_to_owned()?;
    let mut socket = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut bytes = Vec::new();
    (&socket).take(u32::from_le_bytes(length).into()).read_to_end(&mut bytes)?;
    let request = Request::read(&bytes).map_err(|_| io::Error::other("its request is not one"))?;
    super::os::redirect(File::open("/dev/null")?.as_fd(), libc::STDIN_FILENO)?;
    super::os::redirect(io::stderr().as_fd(), libc::STDOUT_FILENO)?;
    std::env::set_current_dir("/")?;
    Ok((request, library, socket))
}

/// Limits this process. What it has now comes on top of the memory that it may take.
fn confine(request: &Request) -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    let size: u64 = size.and_then(|size| size.parse().ok()).ok_or(io::Error::other("its size is unknown"))?;
    // At the first limit of CPU time the process is told, by a signal that ends it and says why; one that ignores the
    // signal is killed at the second.
    let seconds = request.cpu_seconds;
    super::os::limit(libc::RLIMIT_CPU, seconds, seconds.saturating_add(1))?;
    let limits = [
        (libc::RLIMIT_AS, (size << 10).saturating_add(request.memory_bytes)),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_NOFILE, limits::OPEN_FILES_MAX),
        // Threads count too. The superuser is exempt.
        (libc::RLIMIT_NPROC, 0),
    ];
    limits.into_iter().try_for_each(|(resource, most)| super::os::limit(resource, most, most))
}

/// What keeps the library from being called, and a text: the loader's words, the version found, a symbol.
type Failed = (Fault, String);

fn run(request: &Request, file: OwnedFd, answer: &mut Frames) -> Result<(), Failed> {
    confine(request).map_err(|error| (Fault::Worker, format!("cannot limit itself: {error}")))?;
    // Never unloaded: its threads, if it has any, may still run when the process ends.
    let library = ManuallyDrop::new(open(file)?);
    let host = CHost {
        state: std::ptr::from_mut(answer).cast(),
        task: on_task,
        document: on_document,
        score: on_score,
        refuse: on_refuse,
        log: on_log,
    };
    let Some(asked) = &request.apply else { return describe(&library, answer) };
    let call = CCall { tool: abi::text(&asked.tool), params: abi::text(&asked.params), seed: asked.seed };
    match &asked.work {
        Owned::Tasks(tasks) => {
            let tool = symbol(&library, c"selkie_augment_puzzles")?;
            abi::with_tasks(tasks, |tasks| apply(&tool, &host, &call, tasks));
        }
        Owned::Sources(sources) => {
            let tool = symbol(&library, c"selkie_augment_texts")?;
            abi::with_sources(sources, |sources| apply(&tool, &host, &call, sources));
        }
        Owned::Submissions(submissions) => {
            let tool = symbol(&library, c"selkie_grade")?;
            abi::with_submissions(submissions, |submissions| apply(&tool, &host, &call, submissions));
        }
    }
    Ok(())
}

/// Loads the library and looks at its version before anything else of it.
fn open(file: OwnedFd) -> Result<Library, Failed> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    #[expect(unsafe_code, reason = "loading a library runs its constructors")]
    // SAFETY: the operator listed its digest, which says that its code may run. The parent compared the digest with
    // these very bytes, which are sealed. Whatever the code does, it does it to this process.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| {
        // The error's cause has the loader's own words.
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        (Fault::NotALibrary, reason.replace(&path, "the library"))
    })?;
    let version: Symbol<*const u32> = symbol(&library, c"selkie_abi_version")?;
    #[expect(unsafe_code, reason = "the version is a constant of the library")]
    // SAFETY: the interface says that this symbol is a `const uint32_t`.
    let found = unsafe { version.read_unaligned() };
    if found == ABI_VERSION { Ok(library) } else { Err((Fault::Abi, found.to_string())) }
}

fn symbol<T>(library: &Library, name: &CStr) -> Result<Symbol<T>, Failed> {
    #[expect(unsafe_code, reason = "a symbol's type is what the interface says")]
    // SAFETY: each name is looked up with the type that the header gives it.
    let found = unsafe { library.get(name.to_bytes_with_nul()) };
    found.map_err(|_| (Fault::MissingSymbol, name.to_string_lossy().into_owned()))
}

fn describe(library: &Library, answer: &mut Frames) -> Result<(), Failed> {
    let describe: Symbol<abi::Describe> = symbol(library, c"selkie_describe")?;
    let mut content = Vec::new();
    #[expect(unsafe_code, reason = "the library is called")]
    // SAFETY: it is a function of this type, and its text stays until the process ends.
    unsafe {
        put_bytes(&mut content, bytes(describe()));
    }
    answer.frame(MANIFEST, &content);
    Ok(())
}

fn apply<T>(tool: &Symbol<Apply<T>>, host: &CHost, call: &CCall, items: &[T]) {
    #[expect(unsafe_code, reason = "the library is called")]
    // SAFETY: it is a function of this type, and all that it is given lives until it returns.
    unsafe {
        tool(host, call, items.as_ptr(), items.len());
    }
}

/// The answer, on its way to the parent.
struct Frames(BufWriter<File>);

impl Frames {
    /// A parent that does not listen any more has given up: then there is nothing left to do.
    fn frame(&mut self, tag: u8, content: &[u8]) {
        let mut head = vec![tag];
        put_number(&mut head, content.len());
        if self.0.write_all(&head).and_then(|()| self.0.write_all(content)).is_err() {
            super::os::leave();
        }
    }

    fn finish(mut self) -> ! {
        // As above.
        let _ = self.0.flush();
        super::os::leave()
    }
}

/// The frames of the call that a host table belongs to.
///
/// # Safety
/// `host` must be the table that the running call was given, on its thread.
#[expect(unsafe_code, reason = "the library hands the table back")]
unsafe fn frames<'a>(host: *const CHost) -> &'a mut Frames {
    // SAFETY: `run` put a pointer to its frames into the table and does not use them while the library runs. One
    // thread, and no host function calls another: nothing else borrows them.
    unsafe { &mut *(*host).state.cast() }
}

/// # Safety
/// There must be `len` items at `first`, which stay until the result is dropped.
#[expect(unsafe_code, reason = "the library's pointers")]
unsafe fn slice<'a, T>(first: *const T, len: usize) -> &'a [T] {
    // SAFETY: as asked. A null pointer is an empty list.
    if first.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(first, len) } }
}

/// # Safety
/// As [`slice`].
#[expect(unsafe_code, reason = "the library's pointers")]
unsafe fn bytes<'a>(text: CText) -> &'a [u8] {
    // SAFETY: as asked.
    unsafe { slice(text.bytes, text.len) }
}

/// # Safety
/// As [`slice`], for the cells of both grids.
#[expect(unsafe_code, reason = "the library's pointers")]
unsafe fn put_example(out: &mut Vec<u8>, example: &CExample) {
    for CGrid { cells, height, width } in [example.input, example.output] {
        // SAFETY: as asked.
        let cells = unsafe { slice(cells, usize::from(height) * usize::from(width)) };
        wire::put_grid(out, height, width, cells);
    }
}

// SAFETY of the functions below: the library must call them as the header says, with its own pointers. If it does
// not, this process may crash, which costs the call.

#[expect(unsafe_code, reason = "called by the library")]
unsafe extern "C" fn on_task(host: *const CHost, task: *const CTask) {
    let mut content = Vec::new();
    // SAFETY: see above.
    unsafe {
        put_example(&mut content, &(*task).test);
        let train = slice((*task).train, (*task).train_len);
        put_number(&mut content, train.len());
        train.iter().for_each(|example| put_example(&mut content, example));
        frames(host).frame(TASK, &content);
    }
}

#[expect(unsafe_code, reason = "called by the library")]
unsafe extern "C" fn on_document(host: *const CHost, source: usize, document: CText) {
    let mut content = Vec::new();
    put_number(&mut content, source);
    // SAFETY: see above.
    unsafe {
        put_bytes(&mut content, bytes(document));
        frames(host).frame(DOCUMENT, &content);
    }
}

#[expect(unsafe_code, reason = "called by the library")]
unsafe extern "C" fn on_score(host: *const CHost, value: f64, reasons: *const CText, reasons_len: usize) {
    let mut content = value.to_bits().to_le_bytes().to_vec();
    // SAFETY: see above.
    unsafe {
        let reasons = slice(reasons, reasons_len);
        put_number(&mut content, reasons.len());
        reasons.iter().for_each(|reason| put_bytes(&mut content, bytes(*reason)));
        frames(host).frame(SCORE, &content);
    }
}

#[expect(unsafe_code, reason = "called by the library")]
unsafe extern "C" fn on_refuse(host: *const CHost, kind: u32, message: CText) {
    let mut content = Vec::new();
    put_number(&mut content, kind as usize);
    // SAFETY: see above.
    unsafe {
        put_bytes(&mut content, bytes(message));
        frames(host).frame(REFUSAL, &content);
    }
}

#[expect(unsafe_code, reason = "called by the library")]
unsafe extern "C" fn on_log(_: *const CHost, line: CText) {
    // SAFETY: see above.
    let line = unsafe { bytes(line) };
    // At once, so that it is there if the process dies. Nobody can be told that it failed.
    let _ = io::stderr().write_all(&[line, b"\n"].concat());
}
