//! A process that is killed leaves the old generation active or the new one, whole.

/// The passage that most tests adapt to.
pub(crate) const PASSAGE: &str = "passages/volgan_and_branbeck.json";

/// A self-edit, as a model would write it, for [`PASSAGE`]: short to train, and sure to help.
pub(crate) const FACTS: &str = "\
The gem of Vidor Volgan is spinel.
The tool of Lolu Branbeck is rake.
The cargo of Lolu Branbeck is honey.
";

/// The same facts in a form that trains in a tenth of a second.
#[cfg(unix)]
const QUICK: &str = r#"{"version": 1, "data": {"include_source": false, "documents": [
    "The gem of Vidor Volgan is spinel.", "The tool of Lolu Branbeck is rake.", "The cargo of Lolu Branbeck is honey."]},
    "training": {"epochs": 10, "learning_rate": 0.02}}"#;

#[cfg(unix)]
mod unix {
    use std::collections::BTreeSet;
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::{Child, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::Value;

    use super::{PASSAGE, QUICK};
    use crate::support::{TestEnvironment, example, tree};

    const KILLS: u32 = 200;

    /// One home takes so many adaptations, each with a seed of its own; then comes a new home, because making
    /// one is also something that can be killed.
    const SEEDS: usize = 8;

    /// What a run makes that nobody kills.
    struct Undisturbed {
        adapter: String,
        /// From its start to its end, and from the first staged file to its end.
        took: Duration,
        commit: Duration,
    }

    /// The active generation and its adapter; `None` is the base model.
    type Active = Option<(String, String)>;

    fn start(env: &TestEnvironment, home: &str, seed: usize) -> Child {
        let (passage, seed) = (example(PASSAGE), seed.to_string());
        let args =
            ["adapt", &passage, "--self-edit", "edit.json", "--fresh", "--seed", &seed, "--home", home];
        let mut command = env.command(&args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    }

    fn staged(home: &Path) -> BTreeSet<std::ffi::OsString> {
        let entries = std::fs::read_dir(home.join("staging")).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect()
    }

    /// Waits until the run stages something new, or ends.
    fn until_staging(home: &Path, old: &BTreeSet<std::ffi::OsString>, run: &mut Child) {
        while staged(home).is_subset(old) && run.try_wait().expect("its state").is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn undisturbed(env: &TestEnvironment, seed: usize) -> Undisturbed {
        let home = "undisturbed";
        let old = staged(&env.path(home));
        let began = Instant::now();
        let mut run = start(env, home, seed);
        until_staging(&env.path(home), &old, &mut run);
        let staged = began.elapsed();
        assert!(run.wait().expect("it ends").success());
        let took = began.elapsed();
        let (_, adapter) = active(env, home).expect("the edit helps");
        Undisturbed { adapter, took, commit: took - staged }
    }

    fn active(env: &TestEnvironment, home: &str) -> Active {
        let log: Value = env.log(home);
        let text = |value: &Value| value.as_str().expect("a name").to_owned();
        match log["active"].as_array().expect("a list").as_slice() {
            [] => None,
            [active] => Some((text(&active["generation"]), text(&active["adapter"]))),
            several => panic!("{several:?}"),
        }
    }

    /// Numbers in 0..1, always the same ones: what is random is when the system lets a process run.
    struct Moments(u64);

    impl Moments {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// What the run may leave is known beforehand, because a seed decides every byte of an adapter.
    #[test]
    #[expect(clippy::print_stdout, reason = "how the kills were spread is worth reading")]
    fn two_hundred_kills_leave_the_old_generation_or_the_new_one() {
        let env = TestEnvironment::new();
        env.write("edit.json", QUICK);
        let expected: Vec<Undisturbed> = (0..SEEDS).map(|seed| undisturbed(&env, seed)).collect();
        let median = |of: fn(&Undisturbed) -> Duration| {
            let mut all: Vec<Duration> = expected.iter().map(of).collect();
            all.sort();
            all[SEEDS / 2]
        };
        let (mut took, mut commit) = (median(|run| run.took), median(|run| run.commit));
        println!("a run takes {took:?}, its commit {commit:?}");

        let mut moments = Moments(1);
        let (mut kills, mut committing, mut kept, mut ended) = (0, 0, 0, 0);
        let mut before: Active = None;
        for attempt in 0.. {
            let (home, seed) = (format!("home{}", attempt / SEEDS), attempt % SEEDS);
            if seed == 0 {
                before = None;
            }
            let path = env.path(&home);
            let old = staged(&path);
            let mut run = start(&env, &home, seed);
            // One at any moment, two during the commit, which is short, or right after it.
            let in_commit = attempt % 3 != 0;
            let window = if in_commit { &mut commit } else { &mut took };
            if in_commit {
                until_staging(&path, &old, &mut run);
            }
            std::thread::sleep(window.mul_f64(moments.next()));
            run.kill().expect("killed, or at its end");
            let status: ExitStatus = run.wait().expect("it ends");
            let is_killed = status.signal().is_some();
            assert!(is_killed || status.success(), "{status}");

            let next = before.as_ref().map_or(1, |(name, _)| name[1..].parse::<u32>().expect("a number") + 1);
            let new = Some((format!("g{next}"), expected[seed].adapter.clone()));
            let after = active(&env, &home);
            assert!(after == new || (is_killed && after == before), "{before:?}, {new:?}: {after:?}");
            if let Some((generation, _)) = &after {
                // Exporting reads the whole adapter and compares it with its content id.
                let out = format!("export{attempt}");
                env.run(&["export", generation, &out, "--home", &home], "").succeeds();
                assert_eq!(tree(&env.path(&out)).len(), 1 + 2);
            }
            // How fast the machine is changes while other tests run: the window follows, so that most kills meet
            // a living process and some come after its commit.
            *window = window.mul_f64(match is_killed {
                false => 0.7,
                true if after == before => 1.15,
                true => 1.0,
            });
            kills += u32::from(is_killed);
            committing += u32::from(is_killed && in_commit);
            kept += u32::from(is_killed && after != before);
            ended += u32::from(!is_killed);
            before = after;
            if kills == KILLS {
                break;
            }
        }
        println!("{kills} kills, {committing} of them while it staged or committed");
        println!(
            "{kept} left the new generation, the others the old one; {ended} runs ended before they were killed"
        );
    }
}
