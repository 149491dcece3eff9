//! The parent's side: a process is started, asked, watched and ended.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use super::wire::Ask;
use super::{NativeError, NativeLimits, Reply, os, reply, wire};
use crate::work::Batch;
use crate::worker::Worker;

/// How long the parent waits before it looks whether a process is dead whose streams are open; and one whose streams
/// are closed, which is about to be.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_CLOSED: Duration = Duration::from_millis(1);

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// How a process ended, of itself and with exit code 0.
pub(super) struct Answer {
    /// Frames.
    pub(super) bytes: Vec<u8>,
    /// The end of what it logged and printed.
    pub(super) log: String,
}

/// A library's bytes, checked, in a sealed file.
#[derive(Debug)]
pub(super) struct Library(File);

impl Library {
    pub(super) fn new(bytes: &[u8]) -> Result<Library, NativeError> {
        os::sealed_file(bytes).map(Library).map_err(|error| failed("has no copy of the library", &error))
    }

    pub(super) fn describe(&self, worker: &Worker, limits: &NativeLimits) -> Result<String, NativeError> {
        reply::manifest(&self.ask(worker, Ask::Describe, limits)?, limits)
    }

    pub(super) fn apply(
        &self,
        worker: &Worker,
        batch: &Batch<'_>,
        limits: &NativeLimits,
    ) -> Result<Reply, NativeError> {
        reply::made(self.ask(worker, Ask::Apply(*batch), limits)?, batch.work, limits)
    }

    /// Starts a process, lets it do one thing, and ends it.
    ///
    /// # Errors
    /// When the process does not start, or does not end with exit code 0 within its limits.
    fn ask(&self, worker: &Worker, ask: Ask<'_>, limits: &NativeLimits) -> Result<Answer, NativeError> {
        let deadline = Instant::now() + limits.deadline;
        let request = wire::request(limits.memory_bytes as u64, limits.cpu_seconds, ask);
        let (mut process, mut talk) = self.start(worker, &request, limits)?;
        let stopped = talk.until_the_end(&process, deadline);
        let status = process.end();
        talk.read_rest();
        let log = talk.log();
        match stopped.map_err(|error| failed("cannot be watched", &error))? {
            Stop::Deadline => {
                let deadline_ms = u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX);
                Err(NativeError::Deadline { deadline_ms, log })
            }
            Stop::Output => Err(NativeError::OutputTooLarge { max: limits.output_bytes, unit: "bytes", log }),
            Stop::Dead => match status {
                Some(status) if status.success() => Ok(Answer { bytes: talk.output, log }),
                Some(status) => Err(death(status, limits, log)),
                None => Err(NativeError::Worker { reason: "cannot be waited for".into() }),
            },
        }
    }

    /// A process with the library as its stdin, a socket as its stdout, and a second one for everything that it
    /// logs and prints.
    fn start<'a>(
        &self,
        worker: &Worker,
        request: &'a [u8],
        limits: &'a NativeLimits,
    ) -> Result<(Process, Talk<'a>), NativeError> {
        let connect = || -> std::io::Result<_> {
            let ((socket, theirs), (log, their_log)) = (UnixStream::pair()?, UnixStream::pair()?);
            socket.set_nonblocking(true)?;
            log.set_nonblocking(true)?;
            let mut command = worker.command("native");
            command.env_clear().process_group(0).stdin(self.0.try_clone()?);
            command.stdout(OwnedFd::from(theirs)).stderr(OwnedFd::from(their_log));
            let talk =
                Talk { request, socket, log, open: [true; 2], output: Vec::new(), tail: Vec::new(), limits };
            Ok((Process(command.spawn()?), talk))
        };
        connect().map_err(|error| {
            failed(&format!("cannot be started from `{}`", worker.program.display()), &error)
        })
    }
}

fn failed(what: &str, error: &std::io::Error) -> NativeError {
    NativeError::Worker { reason: format!("{what}: {error}") }
}

/// A process that does not outlive its call.
struct Process(Child);

impl Process {
    fn number(&self) -> libc::pid_t {
        // Numbers of processes are positive and fit.
        self.0.id() as libc::pid_t
    }

    /// Kills what is left of the process and of its group, and waits for it.
    fn end(&mut self) -> Option<ExitStatus> {
        os::kill_group(self.number());
        self.0.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // `try_wait` knows whether it has been waited for, in which case the number may be another's.
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            self.end();
        }
    }
}

/// Why the parent stopped listening.
enum Stop {
    Dead,
    Deadline,
    Output,
}

/// What goes to and fro between the processes.
struct Talk<'a> {
    /// What is still to be sent.
    request: &'a [u8],
    socket: UnixStream,
    log: UnixStream,
    /// Whether more may come from the socket, and from the log.
    open: [bool; 2],
    output: Vec<u8>,
    tail: Vec<u8>,
    limits: &'a NativeLimits,
}

impl Talk<'_> {
    fn until_the_end(&mut self, process: &Process, deadline: Instant) -> std::io::Result<Stop> {
        loop {
            if os::is_dead(process.number()) {
                self.read_rest();
                return Ok(if self.is_too_much() { Stop::Output } else { Stop::Dead });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Stop::Deadline);
            }
            let look = if self.open == [false; 2] { LOOK_CLOSED } else { LOOK };
            self.wait(left.min(look))?;
            self.send();
            self.receive();
            if self.is_too_much() {
                return Ok(Stop::Output);
            }
        }
    }

    fn is_too_much(&self) -> bool {
        self.output.len() > self.limits.output_bytes
    }

    fn wait(&self, most: Duration) -> std::io::Result<()> {
        let sends = if self.request.is_empty() { 0 } else { libc::POLLOUT };
        // A negative descriptor is passed over.
        let entry = |stream: &UnixStream, open: bool, events: libc::c_short| {
            let fd = if open { stream.as_raw_fd() } else { -1 };
            libc::pollfd { fd, events: libc::POLLIN | events, revents: 0 }
        };
        let [socket, log] = self.open;
        os::wait(&mut [entry(&self.socket, socket, sends), entry(&self.log, log, 0)], most)
    }

    /// Sends as much of the request as goes. That nobody reads it shows in another way.
    fn send(&mut self) {
        if !self.request.is_empty() {
            match self.socket.write(self.request) {
                Ok(sent) => self.request = &self.request[sent..],
                Err(error) if is_later(&error) => {}
                Err(_) => self.request = &[],
            }
        }
    }

    /// Reads a chunk of what is there. `true` when there was something.
    fn receive(&mut self) -> bool {
        let mut chunk = [0; CHUNK];
        let streams = [(&mut self.socket, &mut self.output), (&mut self.log, &mut self.tail)];
        let mut any = false;
        for ((stream, kept), open) in streams.into_iter().zip(&mut self.open).filter(|(_, open)| **open) {
            match stream.read(&mut chunk) {
                Ok(0) => *open = false,
                Ok(count) => {
                    kept.extend(&chunk[..count]);
                    any = true;
                }
                Err(error) if is_later(&error) => {}
                Err(_) => *open = false,
            }
        }
        let most = self.limits.log_bytes;
        if self.tail.len() > most {
            self.tail.drain(..self.tail.len() - most);
        }
        any
    }

    /// Reads what is there of a process that is dead. What it started may still write, if it has left the group:
    /// so no more than the sockets hold, and a limit.
    fn read_rest(&mut self) {
        for _ in 0..64 {
            if !self.receive() || self.is_too_much() {
                return;
            }
        }
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }
}

fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The error of a process that did not end well.
fn death(status: ExitStatus, limits: &NativeLimits, log: String) -> NativeError {
    match (status.signal(), status.code()) {
        (Some(libc::SIGXCPU), _) => NativeError::CpuTime { seconds: limits.cpu_seconds, log },
        (Some(signal), _) => NativeError::Crashed { signal: signal_name(signal), log },
        (None, code) => NativeError::Exited { code: code.unwrap_or(-1), log },
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGKILL => "SIGKILL: it is out of CPU time, or the machine of memory",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGXFSZ => "SIGXFSZ: it wrote to a file",
        other => return format!("signal {other}"),
    };
    name.into()
}
