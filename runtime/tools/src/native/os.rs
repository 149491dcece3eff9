//! What the standard library has no door to: sealed files, limits, signals. All of it is Linux.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// The result of a call that gives -1 on failure.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A file in memory without a name, which nobody can change any more, this process included.
pub(super) fn sealed_file(bytes: &[u8]) -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    #[expect(unsafe_code, reason = "the standard library makes no files without a name")]
    // SAFETY: the name is a terminated text; the descriptor is new and has no other owner.
    let mut file = unsafe {
        let descriptor = checked(libc::memfd_create(c"selkie-native".as_ptr(), flags))?;
        File::from(OwnedFd::from_raw_fd(descriptor))
    };
    file.write_all(bytes)?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    #[expect(unsafe_code, reason = "seals are set by fcntl")]
    // SAFETY: the descriptor is open, and this command takes a number.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file)
}

/// Lets this process die when the thread that started it does, and never gain rights by starting a program.
pub(super) fn tie_to_parent() -> io::Result<()> {
    #[expect(unsafe_code, reason = "the standard library has no prctl")]
    // SAFETY: both commands take numbers and change this process alone.
    unsafe {
        checked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong))?;
        checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0, 0, 0))?;
    }
    Ok(())
}

/// Closes what this process has inherited beside its three streams.
pub(super) fn close_inherited() -> io::Result<()> {
    // Collected, so that the folder itself is closed before the others are.
    let inherited: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in inherited.into_iter().filter(|descriptor| *descriptor > 2) {
        #[expect(unsafe_code, reason = "nothing in this process owns what it has inherited")]
        // SAFETY: the process has just started and has opened nothing that is still open; that of the folder which
        // was listed is closed already, which is an error that changes nothing.
        unsafe {
            libc::close(descriptor);
        }
    }
    Ok(())
}

/// Makes the descriptor `to` another name of what `from` is open for.
pub(super) fn redirect(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the standard library has no dup2")]
    // SAFETY: `from` is open. `to` is a standard stream, which nothing owns.
    checked(unsafe { libc::dup2(from.as_raw_fd(), to) }).map(drop)
}

/// Which resource; C libraries differ in its type.
#[cfg(target_env = "gnu")]
pub(super) type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(super) type Resource = libc::c_int;

/// Sets a resource's limit, and the one that it can be raised to; where that is lower already, both are that.
pub(super) fn limit(resource: Resource, most: u64, raised: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "the standard library has no limits of resources")]
    // SAFETY: the pointers are to a local of the type that both calls expect.
    unsafe {
        checked(libc::getrlimit(resource, &raw mut limit))?;
        limit.rlim_max = limit.rlim_max.min(raised);
        limit.rlim_cur = limit.rlim_max.min(most);
        checked(libc::setrlimit(resource, &raw const limit))?;
    }
    Ok(())
}

/// Writes what C code has printed, and ends the process at once: neither its other threads nor what it wanted to do
/// at its end can hold it up.
pub(super) fn leave() -> ! {
    #[expect(
        unsafe_code,
        reason = "the standard library does not know C's streams, and its exit runs handlers"
    )]
    // SAFETY: a null pointer means all streams; `_exit` does not return.
    unsafe {
        libc::fflush(std::ptr::null_mut());
        libc::_exit(0)
    }
}

/// Waits until one of the descriptors can be read or written as its entry asks, at most for that long.
pub(super) fn wait(entries: &mut [libc::pollfd], most: Duration) -> io::Result<()> {
    let millis = libc::c_int::try_from(most.as_millis()).unwrap_or(libc::c_int::MAX);
    #[expect(unsafe_code, reason = "the standard library has no poll")]
    // SAFETY: the pointer and the length are those of the slice.
    let result = checked(unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, millis) });
    match result {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Whether a child of this process is dead, or somebody else has waited for it. It stays a zombie, so that its number
/// stays its own.
pub(super) fn is_dead(child: libc::pid_t) -> bool {
    #[expect(unsafe_code, reason = "the standard library reaps a child that it finds dead")]
    // SAFETY: `siginfo_t` is plain data, for which zero is a value; the pointer is to a local of that type.
    unsafe {
        let mut found: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let result = libc::waitid(libc::P_PID, child as libc::id_t, &raw mut found, options);
        result == -1 || found.si_pid() == child
    }
}

/// Kills every process of a child's group. The child must not have been waited for.
pub(super) fn kill_group(child: libc::pid_t) {
    #[expect(unsafe_code, reason = "the standard library kills single processes")]
    // SAFETY: the child leads its group and has not been waited for, so the number is nobody else's.
    unsafe {
        libc::kill(-child, libc::SIGKILL);
    }
}
