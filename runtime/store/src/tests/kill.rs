//! A process that keeps generations is killed at random moments, two hundred times.
//!
//! What a kill leaves in the page cache survives, so this shows the order of writes and the recovery; that
//! they are synced too is what [`crate::disk`] is careful about.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

const KILLS: u64 = 200;

/// After so many kills a new home is begun, so that the checks do not grow with the square of the kills.
const KILLS_A_HOME: u64 = 20;

/// The longest that a child lives: a few keeps, on a slow disk too.
const LIFE_MAX_US: u64 = 40_000;

/// Where the parent of [`child_that_keeps`], or of another child, says which folder it is about.
pub(super) const HOME: &str = "SELKIE_STORE_TEST_KILL_HOME";

/// About a megabyte, as an adapter of a small model has.
fn large(tag: u32) -> AdapterFiles {
    let mut files = files(tag);
    files[1].1 = tag.to_le_bytes().repeat(1 << 18);
    files
}

#[test]
fn a_kill_leaves_the_old_generation_or_the_new_one() {
    let mut random = Random(7);
    let (mut in_flight, mut landed, mut leftovers) = (0, 0, 0);
    for home in 0..KILLS / KILLS_A_HOME {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        let mut last = 0;
        for kill in 0..KILLS_A_HOME {
            let clock = if kill % 4 == 0 { Clock::Spawned } else { Clock::Began };
            let life = Duration::from_micros(random.below(LIFE_MAX_US));
            let told = run_and_kill("tests::kill::child_that_keeps", &path, clock, life);
            let context = format!("home {home}, kill {kill}: {told:?}");
            if !path.exists() {
                assert_eq!(told, Told::default(), "{context}");
                continue;
            }
            // The log first, before anything is recovered.
            let seen = check_ledger(&Store::read_only(&path).unwrap());
            let active = seen.active.get(BASE).map_or(0, |id| id.0);
            let acknowledged = told.kept.unwrap_or(last);
            let possible = if told.began > acknowledged { told.began } else { acknowledged };
            assert!(active == acknowledged || active == possible, "{active} is active. {context}");
            assert_eq!(active, seen.generations.len() as i64, "{context}");
            in_flight += u64::from(possible > acknowledged);
            landed += u64::from(possible > acknowledged && active == possible);
            leftovers += u64::from(
                names(&path.join("adapters")).len() + names(&path.join("staging")).len() != active as usize,
            );

            // The new ones, and what was active before.
            let reader = Store::read_only(&path).unwrap();
            for generation in seen.generations.iter().filter(|generation| generation.id.0 >= last) {
                let files = reader.adapter_files(&generation.adapter).unwrap();
                assert_eq!(files, large(generation.id.0 as u32), "{context}");
            }
            last = active;
        }
        if path.exists() {
            keep(&mut Store::open(&path).unwrap(), BASE, u32::MAX).unwrap();
            assert_eq!(check_settled(&path).generations.len() as i64, last + 1);
        }
    }
    eprintln!(
        "{KILLS} kills: {in_flight} during a keep, {landed} of them after the commit, {leftovers} left something"
    );
    assert!(in_flight > KILLS / 2, "only {in_flight} kills came during a keep");
    assert!(leftovers > 0, "no kill left anything to recover");
}

/// What a child said before it died.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    /// The number of the last generation that it began to keep, or of the last batch that it began to add.
    pub(super) began: i64,
    /// The number of the last that it was told is kept.
    pub(super) kept: Option<i64>,
}

/// When the clock of a child's life starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// With the process: it may die while it opens the home.
    Spawned,
    /// With its first piece of work, so that a busy machine does not make every death an early one.
    Began,
}

/// Runs a test of this binary in a process of its own, and kills it.
pub(super) fn run_and_kill(child: &str, home: &Path, clock: Clock, life: Duration) -> Told {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture"])
        .env(HOME, home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = Told::default();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while clock == Clock::Began && told.began == 0 {
        told.hear(&lines.next().unwrap().unwrap());
    }
    std::thread::sleep(life);
    child.kill().unwrap();
    lines.for_each(|line| told.hear(&line.unwrap()));
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the child was killed, and did not fail: {status}");
    told
}

impl Told {
    fn hear(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("began", number)) => self.began = number.parse().unwrap(),
            Some(("kept", number)) => self.kept = Some(number.parse().unwrap()),
            // What the test harness says.
            _ => {}
        }
    }
}

/// The other half of the test above; does nothing when run by itself.
#[test]
fn child_that_keeps() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let mut store = Store::open(home).unwrap();
    loop {
        let next = store.active(BASE).unwrap().map_or(0, |active| active.id.0) + 1;
        tell(format!("began {next}\n"));
        let files = large(next as u32);
        store.begin(BASE).unwrap().stage(&files).unwrap().keep(&record(next), &trial()).unwrap();
        tell(format!("kept {next}\n"));
    }
}

/// A line in one write, so that a kill cuts none in two. Not through `println`, which a test captures.
pub(super) fn tell(line: String) {
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// A generator of Lehmer's kind: the moments are the same in every run, as far as a scheduler allows.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        self.0 % bound
    }
}
