//! Native plugins: the examples do what the built-in plugin does, and whatever a library does to its process costs
//! one call. The libraries are compiled here; without `cc` the tests say so and pass.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use insta::assert_snapshot;
use regex::Regex;
use selkie_edit::{Example, Grid, PlannedCall, SplitMix64, Submission, Task, TextSource};
use selkie_tools::GuestErrorKind;
use selkie_tools::native::{NativeError, NativeLimits, NativePlugin, Refusal};
use selkie_tools::{HostOptions, Made, ToolHost, Work, Worker};

use crate::support::{TestEnvironment, repository};

fn worker() -> Worker {
    Worker { program: env!("CARGO_BIN_EXE_selkie").into(), args: vec!["worker".into()] }
}

#[expect(clippy::print_stdout, reason = "a skipped test says why")]
fn has_c_compiler() -> bool {
    let found = Command::new("cc").arg("--version").output().is_ok();
    if !found {
        println!("skipped: no C compiler `cc`");
    }
    found
}

/// A library made of this C.
fn compile(env: &TestEnvironment, source: &str) -> PathBuf {
    env.write("library.c", source);
    let (library, header) = (env.path("library.so"), repository().join("sdk/c"));
    let mut command = Command::new("cc");
    command.args([
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Wno-unused",
        "-O1",
        "-shared",
        "-fPIC",
        "-pthread",
        "-I",
    ]);
    let output = command.arg(header).arg("-o").arg(&library).arg(env.path("library.c")).output();
    let output = output.expect("cc runs");
    assert!(output.status.success(), "{}\n{source}", String::from_utf8_lossy(&output.stderr));
    library
}

/// The library, with its digest listed as an operator would: by the refusal's own words.
fn trusted(library: &Path, limits: &NativeLimits) -> NativePlugin {
    let digest = match NativePlugin::load(library, &[], &worker(), limits) {
        Err(NativeError::NotAllowed { digest, .. }) => digest,
        other => panic!("{other:?}"),
    };
    NativePlugin::load(library, &[digest.to_uppercase()], &worker(), limits).expect("a listed library")
}

fn rotate_in_c(env: &TestEnvironment) -> PathBuf {
    compile(env, &std::fs::read_to_string(repository().join("sdk/c/rotate.c")).expect("the example"))
}

fn rotate_in_rust(env: &TestEnvironment) -> PathBuf {
    let library = env.path("rotate.so");
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-D", "warnings", "-o"]);
    let output = command.arg(&library).arg(repository().join("examples/native_rust/src/lib.rs")).output();
    let output = output.expect("rustc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

fn grid(random: &mut SplitMix64, side_max: usize) -> Grid {
    let [height, width] = [(); 2].map(|()| 1 + (random.below(side_max)) as u8);
    let cells = (0..usize::from(height) * usize::from(width)).map(|_| random.below(10) as u8);
    Grid::new(height, width, cells.collect()).expect("a grid")
}

fn generated(count: usize, side_max: usize) -> Vec<Task> {
    let random = &mut SplitMix64::new(count as u64);
    let example =
        |random: &mut SplitMix64| Example { input: grid(random, side_max), output: grid(random, side_max) };
    let task = |random: &mut SplitMix64| {
        let train = (0..random.below(4)).map(|_| example(random)).collect();
        Task { train, test: example(random) }
    };
    (0..count).map(|_| task(random)).collect()
}

/// Rotates as the built-in plugin does, grids of all sizes.
fn check_rotates(plugin: &NativePlugin, tool: &str) {
    let host = ToolHost::new(HostOptions::new(None)).expect("the built-in plugins");
    let built_in = host.catalogue().get("grid.rotate").expect("the tool").plugin.clone();
    for (tasks, degrees) in [(generated(300, 30), 90), (generated(300, 30), 180), (generated(4, 255), 270)] {
        let params = format!(r#"{{"degrees": {degrees}}}"#);
        let planned = PlannedCall {
            tool: "grid.rotate".into(),
            plugin: built_in.clone(),
            params: params.clone(),
            seed: 0,
        };
        let expected = host.augment(&planned, &tasks).expect("the built-in tool works").made;
        let reply = plugin.apply(tool, &params, 0, Work::Tasks(&tasks)).expect("an answer");
        assert!(reply.made == Ok(Made::Tasks(expected)), "{tool} by {degrees} degrees is not grid.rotate");
        assert_eq!(reply.log, "");
    }
    let refused = plugin.apply(tool, r#"{"degrees": 91}"#, 0, Work::Tasks(&[])).expect("an answer").made;
    assert_eq!(refused.expect_err("a refusal").kind, GuestErrorKind::InvalidParams);
    let manifest = plugin.describe().expect("a manifest");
    let manifest = selkie_tools::manifest::Manifest::parse(&manifest).expect("that keeps the rules");
    assert_eq!(manifest.tools[0].name, tool);
}

#[test]
fn the_example_in_c_is_grid_rotate() {
    if has_c_compiler() {
        let env = TestEnvironment::new();
        let plugin = trusted(&rotate_in_c(&env), &NativeLimits::default());
        check_rotates(&plugin, "rotate_c.rotate");
    }
}

#[test]
fn the_example_in_rust_is_grid_rotate() {
    if has_c_compiler() {
        let env = TestEnvironment::new();
        let plugin = trusted(&rotate_in_rust(&env), &NativeLimits::default());
        check_rotates(&plugin, "rotate_rust.rotate");
    }
}

#[test]
fn texts_and_submissions_arrive_whole() {
    if !has_c_compiler() {
        return;
    }
    let env = TestEnvironment::new();
    let plugin = trusted(&compile(&env, include_str!("everything.c")), &NativeLimits::default());
    let made = |seed, work| plugin.apply("t.t", r#"{"é": 1}"#, seed, work).expect("an answer").made;
    let source = |title: &str, completions: &[&str]| TextSource {
        title: title.into(),
        text: "Passage, ünïcode.".into(),
        completions: completions.iter().map(|&text| text.into()).collect(),
    };
    let sources = [source("T", &["a", ""]), source("", &[])];
    let documents = made(0, Work::Sources(&sources));
    let first = [r#"{"é": 1}"#, "T", "Passage, ünïcode.", "a", ""].map(String::from).to_vec();
    let second = [r#"{"é": 1}"#, "", "Passage, ünïcode."].map(String::from).to_vec();
    assert_eq!(documents, Ok(Made::Documents(vec![first, second])));

    let grid = |rows: &[Vec<u8>]| Grid::from_rows(rows).expect("a grid");
    let submissions = [
        Submission::Answers { left: "x".into(), right: String::new() },
        Submission::Grids { left: grid(&[vec![1, 2, 3]]), right: grid(&[vec![4], vec![5]]) },
        Submission::Edit { title: "T".into(), passage: "P".into(), documents: vec!["d".into(), "e".into()] },
    ];
    let Ok(Made::Scores(scores)) = made(0, Work::Submissions(&submissions)) else { panic!("no scores") };
    let told: Vec<(f64, String)> =
        scores.iter().map(|score| (score.value, score.reasons.join("|"))).collect();
    let expected = [(0.0, "x|".into()), (0.5, "1x3, last 3|2x1, last 5".into()), (1.0, "T|P|d|e".into())];
    assert_eq!(told, expected);

    use GuestErrorKind::{Internal, InvalidParams, ModelUnavailable, UnknownTool, UnsupportedInput};
    let kinds = [InvalidParams, UnknownTool, UnsupportedInput, ModelUnavailable, Internal];
    for (seed, kind) in (1..).zip(kinds) {
        let refusal = Refusal { kind, message: "because of the  [31mseed".into() };
        assert_eq!(made(seed, Work::Submissions(&submissions)), Err(refusal));
    }
    let error = plugin.apply("t.t", "{}", 6, Work::Submissions(&[])).expect_err("no such kind");
    assert_snapshot!(error, @"its answer is refused: a refusal: 5 is no kind of refusal");
    let error = plugin.apply("t.t", "{}", 0, Work::Tasks(&[])).expect_err("no such tools");
    assert_snapshot!(error, @"it does not define `selkie_augment_puzzles`");
    assert_eq!(plugin.describe().expect("nothing is a text too"), "");
}

/// A second of CPU time. The deadline is far away, however busy the machine is.
fn tight() -> NativeLimits {
    NativeLimits { cpu_seconds: 1, deadline: Duration::from_secs(600), ..NativeLimits::default() }
}

/// A deadline that is met soon, but not by a process that does nothing.
fn hasty() -> NativeLimits {
    NativeLimits { deadline: Duration::from_secs(2), ..NativeLimits::default() }
}

fn hostile(env: &TestEnvironment, mark: &str, code: &str, limits: &NativeLimits) -> NativePlugin {
    let source = include_str!("hostile.c");
    let mark = format!("/*{mark}*/");
    assert!(source.contains(&mark), "no mark {mark}");
    trusted(&compile(env, &source.replace(&mark, code)), limits)
}

/// The error of a call that runs this C, after which the same library must still serve. Empty without a compiler.
fn attack(code: &str, limits: &NativeLimits) -> Option<String> {
    if !has_c_compiler() {
        return None;
    }
    let env = TestEnvironment::new();
    let plugin = hostile(&env, "AUGMENT", code, limits);
    let tasks = generated(2, 5);
    let error = plugin.apply("t.t", "{}", 1, Work::Tasks(&tasks)).expect_err("an attack that fails");
    let reply = plugin.apply("t.t", "{}", 0, Work::Tasks(&tasks)).expect("the next call is served");
    assert_eq!(reply.made, Ok(Made::Tasks(tasks)));
    // The number of a thread.
    Some(Regex::new(r" \([0-9]+\)").expect("a pattern").replace_all(&error.to_string(), "").into_owned())
}

/// A snapshot of an attack's error.
macro_rules! attacks {
    ($($name:ident: $code:expr, $limits:expr, @$expected:literal;)*) => {
        $(
            #[test]
            fn $name() {
                if let Some(error) = attack($code, &$limits) {
                    assert_snapshot!(error, @$expected);
                }
            }
        )*
    };
}

attacks! {
    a_segmentation_fault_costs_the_call: "*(volatile int *)8 = 1;", tight(), @"its process died of SIGSEGV";
    an_abort_comes_with_the_last_words:
        r#"fprintf(stderr, "assertion\nfailed\x1b[2J"); abort();"#, tight(), @"its process died of SIGABRT; its last words: assertion failed [2J";
    a_library_that_exits_did_not_answer: "exit(0);", tight(), @"it ended its process with exit code 0 before it answered";
    an_exit_code_is_told: r#"host->log(host, text("no licence")); _exit(7);"#, tight(), @"it ended its process with exit code 7 before it answered; its last words: no licence";
    an_answer_before_an_exit_does_not_count: "host->task(host, &tasks[0]); exit(0);", tight(), @"it ended its process with exit code 0 before it answered";
    an_endless_loop_is_out_of_cpu_time: "for (volatile int i = 0;; i++) {}", tight(), @"stopped after 1 s of CPU time";
    a_loop_that_ignores_the_signal_is_killed:
        "signal(SIGXCPU, SIG_IGN); for (volatile int i = 0;; i++) {}", tight(), @"its process died of SIGKILL: it is out of CPU time, or the machine of memory";
    sleeping_meets_the_deadline:
        "for (;;) pause();", hasty(), @"stopped at its deadline of 2000 ms";
    closing_the_streams_is_no_way_out:
        "for (int fd = 0; fd < 64; fd++) close(fd); for (;;) pause();",
        hasty(), @"stopped at its deadline of 2000 ms";
    a_memory_bomb_gets_no_memory:
        r#"size_t got = 0; void *m; while ((m = malloc(1 << 20))) { memset(m, 1, 1 << 20); got++; }
        fprintf(stderr, got < 128 ? "less than 128 MiB" : "%zu MiB", got); abort();"#, tight(), @"its process died of SIGABRT; its last words: less than 128 MiB";
    endless_recursion_is_a_crash: "selkie_augment_puzzles(host, call, tasks, tasks_len); (*(volatile int *)&tasks_len)++;",
        tight(), @"its process died of SIGABRT; its last words: thread 'main' has overflowed its stack fatal runtime error: stack overflow, aborting";
    a_flood_of_tasks_is_cut_by_number: "for (;;) host->task(host, tasks);",
        NativeLimits { output_bytes: 1 << 20, ..tight() }, @"its answer exceeds 1048576 bytes";
    more_items_than_allowed_are_refused: "for (int i = 0; i < 100; i++) host->task(host, tasks);",
        NativeLimits { output_items: 99, ..tight() }, @"its answer exceeds 99 items";
    a_flood_on_stdout_is_no_answer:
        "for (;;) putchar('!');", NativeLimits { log_bytes: 20, ..tight() }, @"stopped after 1 s of CPU time; its last words: !!!!!!!!!!!!!!!!!!!!";
    writing_a_file_ends_the_process:
        r#"int fd = open("/dev/shm/selkie-native-test", O_CREAT | O_WRONLY, 0600);
        unlink("/dev/shm/selkie-native-test"); write(fd, "x", 1);"#, tight(), @"its process died of SIGXFSZ: it wrote to a file";
    a_grid_without_cells_is_refused:
        "selkie_task task = tasks[0]; task.test.input.cells = NULL; host->task(host, &task);", tight(), @"its answer is refused: task 0: 0 cells for a grid of 1x1";
    colour_12_is_refused:
        "uint8_t twelve = 12; selkie_task task = tasks[0];
        task.test.output.cells = &twelve; task.test.output.height = task.test.output.width = 1;
        host->task(host, &task);", tight(), @"its answer is refused: task 0: colour 12 at row 0, column 0: colours are 0 to 9";
    a_task_of_countless_examples_is_refused:
        "selkie_example many[65]; for (int i = 0; i < 65; i++) many[i] = tasks[0].test;
        selkie_task task = {many, 65, tasks[0].test}; host->task(host, &task);", tight(), @"its answer is refused: task 0 has 65 examples, at most 64 are taken";
    a_document_from_a_puzzle_augmenter_is_refused: r#"host->document(host, 0, text("text"));"#, tight(), @"its answer is refused: something else than the tasks of this kind of tool";
    bytes_on_the_socket_are_no_answer:
        "for (int fd = 3; fd < 64; fd++) write(fd, \"\\3\\1\\0\\0\\0garbage\", 12); _exit(0);", tight(), @"its answer is refused: task 0: it ends too early";
    an_answer_that_ends_too_early_is_refused:
        "for (int fd = 3; fd < 64; fd++) write(fd, \"\\3\\377\\377\\377\\377\", 5); _exit(0);", tight(), @"its answer is refused: its end: it ends too early";
}

/// The error of a library with this C at a mark, when it is asked to describe itself.
fn describe(mark: &str, code: &str) -> Option<String> {
    has_c_compiler().then(|| {
        let plugin = hostile(&TestEnvironment::new(), mark, code, &tight());
        plugin.describe().expect_err("an attack that fails").to_string()
    })
}

macro_rules! descriptions {
    ($($name:ident: $mark:literal, $code:expr, @$expected:literal;)*) => {
        $(
            #[test]
            fn $name() {
                if let Some(error) = describe($mark, $code) {
                    assert_snapshot!(error, @$expected);
                }
            }
        )*
    };
}

descriptions! {
    another_version_is_refused_before_anything_is_called: "VERSION", " + 1u", @"it is for version 2 of the native interface, this host has version 1";
    a_library_that_is_linked_with_what_is_not_here_does_not_load:
        "DESCRIBE", "extern selkie_text not_here(void); return not_here();", @"not a shared library that loads here: the library: undefined symbol: not_here";
    a_constructor_runs_in_the_process_only:
        "TOP", r#"__attribute__((constructor)) static void start(void) { puts("hello"); fflush(stdout); abort(); }"#, @"its process died of SIGABRT; its last words: hello";
    an_endless_describe_is_out_of_cpu_time: "DESCRIBE", "for (volatile int i = 0;; i++) {}", @"stopped after 1 s of CPU time";
    a_huge_manifest_is_not_read:
        "DESCRIBE", "static char huge[300000]; return (selkie_text){huge, sizeof huge};", @"its answer exceeds 262144 bytes";
    a_manifest_that_is_not_text_is_refused: "DESCRIBE", r#"return text("\xff");"#, @"its answer is refused: its manifest: a text is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0";
}

#[test]
fn a_library_without_a_symbol_is_told_which() {
    if !has_c_compiler() {
        return;
    }
    let env = TestEnvironment::new();
    let error = |source| {
        trusted(&compile(&env, source), &NativeLimits::default()).describe().expect_err("refused").to_string()
    };
    assert_snapshot!(error("int unrelated;"), @"it does not define `selkie_abi_version`");
    assert_snapshot!(error("const unsigned selkie_abi_version = 1;"), @"it does not define `selkie_describe`");
}

#[test]
fn what_is_no_library_is_refused() {
    let env = TestEnvironment::new();
    let refused = |bytes: &[u8]| {
        env.write("no.so", bytes);
        trusted(&env.path("no.so"), &NativeLimits::default()).describe().expect_err("refused").to_string()
    };
    assert_snapshot!(refused(b""), @"not a shared library that loads here: the library: file too short");
    assert_snapshot!(refused(b"no library"), @"not a shared library that loads here: the library: file too short");
}

#[test]
fn an_unlisted_library_is_refused_with_what_would_allow_it() {
    let env = TestEnvironment::new();
    env.write("new.so", "its bytes");
    let error = NativePlugin::load(&env.path("new.so"), &["0".repeat(64)], &worker(), &tight());
    let error = error.expect_err("refused").to_string().replace(&env.path("").display().to_string(), "");
    assert_snapshot!(error, @"`new.so` is native code, and its SHA-256 is not listed: 2ea9ca2c5409c7c3146c81e7b9c4311e2bde5a5c8bb16b6012bed440dc0de434; if you trust it, allow it with --allow-native 2ea9ca2c5409c7c3146c81e7b9c4311e2bde5a5c8bb16b6012bed440dc0de434");
    let missing = NativePlugin::load(Path::new("missing.so"), &[], &worker(), &tight());
    assert_snapshot!(missing.expect_err("no file"), @"cannot read `missing.so`: No such file or directory (os error 2)");
}

#[test]
fn a_library_that_is_exchanged_after_the_check_is_not_loaded() {
    if !has_c_compiler() {
        return;
    }
    let env = TestEnvironment::new();
    let library = rotate_in_c(&env);
    let checked = trusted(&library, &NativeLimits::default());
    let manifest = checked.describe().expect("a manifest");
    // Both ways: into the same file, and another file of the name.
    std::fs::write(&library, "another").expect("written");
    assert_eq!(checked.describe().expect("the same one"), manifest);
    std::fs::remove_file(&library).expect("removed");
    compile(&env, include_str!("everything.c"));
    assert_eq!(checked.describe().expect("the same one"), manifest);
    let again = NativePlugin::load(&library, &[checked.digest().into()], &worker(), &tight());
    assert!(matches!(again, Err(NativeError::NotAllowed { .. })), "{again:?}");
}

#[test]
fn a_worker_that_is_none_is_an_error_of_its_own() {
    let env = TestEnvironment::new();
    env.write("any.so", "any");
    let error = |program: &str| {
        let limits = NativeLimits::default();
        let digest = trusted(&env.path("any.so"), &limits).digest().to_owned();
        let worker = Worker { program: program.into(), args: Vec::new() };
        let plugin = NativePlugin::load(&env.path("any.so"), &[digest], &worker, &limits).expect("listed");
        plugin.describe().expect_err("no worker").to_string()
    };
    assert_snapshot!(error("/nowhere/selkie"), @"its process cannot be started from `/nowhere/selkie`: No such file or directory (os error 2)");
    assert_snapshot!(error("false"), @"it ended its process with exit code 1 before it answered");
    assert_snapshot!(TestEnvironment::new().run(&["worker", "native"], ""), @r"
    exit code: 2
    ----- stderr
    this is a part of selkie that selkie itself starts: Bad file descriptor (os error 9)
    ");
}

#[test]
fn what_a_library_prints_is_its_log_and_what_it_is_given_is_little() {
    if !has_c_compiler() {
        return;
    }
    let env = TestEnvironment::new();
    let code = r#"
        extern char **environ;
        int open = 0, variables = 0;
        for (int fd = 0; fd < 1024; fd++) open += fcntl(fd, F_GETFD) != -1;
        while (environ[variables]) variables++;
        char folder[100], byte;
        printf("%d variables, %d descriptors, stdin %ld\n", variables, open, (long)read(0, &byte, 1));
        fprintf(stderr, "in %s\n", getcwd(folder, sizeof folder));
        struct rlimit core, files;
        getrlimit(RLIMIT_CORE, &core);
        getrlimit(RLIMIT_NOFILE, &files);
        printf("core %lu, files %lu\n", (unsigned long)core.rlim_max, (unsigned long)files.rlim_max);
        host->log(host, text("a line"));
    "#;
    let plugin = hostile(&env, "AUGMENT", code, &tight());
    let log = |plugin: &NativePlugin| {
        let reply = plugin.apply("t.t", "{}", 1, Work::Tasks(&generated(3, 3))).expect("an answer");
        assert_eq!(reply.made, Ok(Made::Tasks(generated(3, 3))));
        reply.log
    };
    assert_snapshot!(log(&plugin), @r"
    in /
    a line
    0 variables, 4 descriptors, stdin 0
    core 0, files 16
    ");
    // A shell that leaves a descriptor open, and sets a variable.
    let program = env!("CARGO_BIN_EXE_selkie").into();
    let shell = ["-c".into(), r#"exec "$0" worker "$1" 7</dev/null"#.into(), program];
    let shell = Worker { program: "/bin/sh".into(), args: shell.to_vec() };
    let digest = plugin.digest().to_owned();
    let through_shell =
        NativePlugin::load(&env.path("library.so"), &[digest], &shell, &tight()).expect("listed");
    assert!(log(&through_shell).contains(" 4 descriptors"), "{}", log(&through_shell));
}

/// Processes of a group that have not ended.
fn alive(group: &str) -> usize {
    let processes = std::fs::read_dir("/proc").expect("a list of processes");
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    // After the name: state, parent, group.
    let of_group = stats.filter(|stat| {
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields[0] != "Z" && fields[2] == group
    });
    of_group.count()
}

#[test]
fn what_a_library_starts_ends_with_its_call() {
    if !has_c_compiler() {
        return;
    }
    let env = TestEnvironment::new();
    // 64 processes where forks succeed: for the superuser, who is exempt from the limit.
    let code = r#"fprintf(stderr, "%d\n", getpid()); for (int i = 0; i < 6; i++) fork(); for (;;) pause();"#;
    let plugin = hostile(&env, "AUGMENT", code, &hasty());
    let error = plugin.apply("t.t", "{}", 1, Work::Tasks(&[])).expect_err("stopped");
    let NativeError::Deadline { log, .. } = error else { panic!("{error}") };
    // They are told to die before the call returns, and are dead soon after.
    while alive(log.trim()) > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_process_that_left_the_group_is_not_waited_for() {
    if !has_c_compiler() {
        return;
    }
    let env = TestEnvironment::new();
    // It keeps the streams open, for longer than the deadline.
    let code = "if (fork() == 0) { setsid(); sleep(10); _exit(0); }";
    let plugin = hostile(&env, "AUGMENT", code, &hasty());
    let made = plugin.apply("t.t", "{}", 1, Work::Tasks(&generated(1, 3))).expect("an answer").made;
    assert_eq!(made, Ok(Made::Tasks(generated(1, 3))));
}

#[test]
fn calls_at_once_do_not_disturb_each_other() {
    if !has_c_compiler() {
        return;
    }
    let env = TestEnvironment::new();
    let plugin = hostile(&env, "AUGMENT", "for (;;) pause();", &hasty());
    let tasks = generated(2, 4);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| plugin.apply("t.t", "{}", 1, Work::Tasks(&tasks)));
        for _ in 0..5 {
            let reply = plugin.apply("t.t", "{}", 0, Work::Tasks(&tasks)).expect("an answer");
            assert_eq!(reply.made, Ok(Made::Tasks(tasks.clone())));
        }
        let error = stuck.join().expect("no panic").expect_err("stopped");
        assert!(matches!(error, NativeError::Deadline { .. }), "{error}");
    });
}

#[test]
fn a_process_dies_with_the_thread_that_waits_for_it() {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let start = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selkie"));
        let command = command.args(["worker", "native"]).stdin(Stdio::null()).stdout(OwnedFd::from(theirs));
        let child = command.spawn().expect("it starts");
        // The last thing that it does before it reads its request.
        let status = PathBuf::from(format!("/proc/{}/status", child.id()));
        while !std::fs::read_to_string(&status).expect("a process").contains("NoNewPrivs:\t1") {
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    };
    let mut child = std::thread::spawn(start).join().expect("no panic");
    assert_eq!(child.wait().expect("it ends").signal(), Some(libc::SIGKILL));
    drop(ours);
}

#[test]
fn a_listed_library_in_the_folder_of_plugins_is_a_tool_like_any_other() {
    if !has_c_compiler() {
        return;
    }
    let env = TestEnvironment::new();
    std::fs::create_dir(env.path("plugins")).expect("a folder");
    std::fs::rename(rotate_in_c(&env), env.path("plugins/rotate.so")).expect("a library");
    let run = |digest: &str, more: &[&str]| {
        let allowed = ["--plugins", "plugins", "--allow-native", digest];
        env.run(&[&more[..2], &allowed[..], &more[2..]].concat(), "[[1, 2], [3, 4]]")
    };
    let refused = run(&"0".repeat(64), &["tool", "list"]);
    assert_snapshot!(refused, @"
    exit code: 2
    ----- stderr
    error: plugin `rotate.so`, loading: `plugins/rotate.so` is native code, and its SHA-256 is not listed: [DIGEST]; if you trust it, allow it with --allow-native [DIGEST]
    ");
    let digest = refused.stderr.rsplit(' ').next().expect("a digest").trim().to_owned();
    assert!(run(&digest, &["tool", "list"]).succeeds().contains("rotate_c.rotate"));
    let rotate = ["tool", "run", "rotate_c.rotate", "--params"];
    let turned = run(&digest, &[&rotate[..], &[r#"{"degrees": 90}"#]].concat());
    assert_snapshot!(turned, @"
    exit code: 0
    ----- stdout
    [[2,4],[1,3]]
    ");
    assert_snapshot!(run(&digest, &[&rotate[..], &[r#"{"degrees": 91}"#]].concat()), @"
    exit code: 2
    ----- stderr
    error: this tool call is not valid
      bad_params at /params/degrees: expected one of 90, 180, 270, found 91
    hint: `selkie tool list --json` prints every tool's parameters
    ");
}
