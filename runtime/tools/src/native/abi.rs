//! `sdk/c/selkie_plugin.h` in Rust. A test compares the two with a C compiler.

use std::ffi::c_void;

use selkie_edit::{Example, Grid, Submission, Task, TextSource};

/// The version of the header.
pub(super) const ABI_VERSION: u32 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CText {
    pub(super) bytes: *const u8,
    pub(super) len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CGrid {
    pub(super) cells: *const u8,
    pub(super) height: u8,
    pub(super) width: u8,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CExample {
    pub(super) input: CGrid,
    pub(super) output: CGrid,
}

#[repr(C)]
pub(super) struct CTask {
    pub(super) train: *const CExample,
    pub(super) train_len: usize,
    pub(super) test: CExample,
}

#[repr(C)]
pub(super) struct CSource {
    pub(super) title: CText,
    pub(super) text: CText,
    pub(super) completions: *const CText,
    pub(super) completions_len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CAnswers {
    pub(super) left: CText,
    pub(super) right: CText,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CGrids {
    pub(super) left: CGrid,
    pub(super) right: CGrid,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CEdit {
    pub(super) title: CText,
    pub(super) passage: CText,
    pub(super) documents: *const CText,
    pub(super) documents_len: usize,
}

#[repr(C)]
pub(super) struct CSubmission {
    pub(super) kind: u32,
    pub(super) of: CSubmissionOf,
}

#[repr(C)]
pub(super) union CSubmissionOf {
    pub(super) answers: CAnswers,
    pub(super) grids: CGrids,
    pub(super) edit: CEdit,
}

#[repr(C)]
pub(super) struct CCall {
    pub(super) tool: CText,
    pub(super) params: CText,
    pub(super) seed: u64,
}

#[repr(C)]
pub(super) struct CHost {
    pub(super) state: *mut c_void,
    pub(super) task: unsafe extern "C" fn(*const CHost, *const CTask),
    pub(super) document: unsafe extern "C" fn(*const CHost, usize, CText),
    pub(super) score: unsafe extern "C" fn(*const CHost, f64, *const CText, usize),
    pub(super) refuse: unsafe extern "C" fn(*const CHost, u32, CText),
    pub(super) log: unsafe extern "C" fn(*const CHost, CText),
}

pub(super) type Describe = unsafe extern "C" fn() -> CText;

/// A tool's function: of a kind of tool whose work is made of `T`.
pub(super) type Apply<T> = unsafe extern "C" fn(*const CHost, *const CCall, *const T, usize);

pub(super) fn text(text: &str) -> CText {
    CText { bytes: text.as_ptr(), len: text.len() }
}

fn texts(list: &[String]) -> Vec<CText> {
    list.iter().map(|item| text(item)).collect()
}

fn grid(grid: &Grid) -> CGrid {
    CGrid { cells: grid.cells().as_ptr(), height: grid.height(), width: grid.width() }
}

fn example(example: &Example) -> CExample {
    CExample { input: grid(&example.input), output: grid(&example.output) }
}

/// Hands the tasks as the interface has them; good until `use_them` returns.
pub(super) fn with_tasks(tasks: &[Task], use_them: impl FnOnce(&[CTask])) {
    let train: Vec<Vec<CExample>> =
        tasks.iter().map(|task| task.train.iter().map(example).collect()).collect();
    let views = tasks.iter().zip(&train).map(|(task, train)| CTask {
        train: train.as_ptr(),
        train_len: train.len(),
        test: example(&task.test),
    });
    use_them(&views.collect::<Vec<_>>());
}

/// As [`with_tasks`].
pub(super) fn with_sources(sources: &[TextSource], use_them: impl FnOnce(&[CSource])) {
    let completions: Vec<Vec<CText>> = sources.iter().map(|source| texts(&source.completions)).collect();
    let views = sources.iter().zip(&completions).map(|(source, completions)| CSource {
        title: text(&source.title),
        text: text(&source.text),
        completions: completions.as_ptr(),
        completions_len: completions.len(),
    });
    use_them(&views.collect::<Vec<_>>());
}

/// As [`with_tasks`].
pub(super) fn with_submissions(submissions: &[Submission], use_them: impl FnOnce(&[CSubmission])) {
    let documents: Vec<Vec<CText>> = submissions
        .iter()
        .map(|submission| match submission {
            Submission::Edit { documents, .. } => texts(documents),
            _ => Vec::new(),
        })
        .collect();
    let views = submissions.iter().zip(&documents).map(|(submission, documents)| match submission {
        Submission::Answers { left, right } => {
            let answers = CAnswers { left: text(left), right: text(right) };
            CSubmission { kind: 0, of: CSubmissionOf { answers } }
        }
        Submission::Grids { left, right } => {
            let grids = CGrids { left: grid(left), right: grid(right) };
            CSubmission { kind: 1, of: CSubmissionOf { grids } }
        }
        Submission::Edit { title, passage, .. } => {
            let (title, passage) = (text(title), text(passage));
            let edit =
                CEdit { title, passage, documents: documents.as_ptr(), documents_len: documents.len() };
            CSubmission { kind: 2, of: CSubmissionOf { edit } }
        }
    });
    use_them(&views.collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::mem::offset_of;
    use std::process::{Command, Stdio};

    use super::*;

    /// What a C compiler of this name and language says to the header and these lines. `None` where there is none.
    fn complaints(compiler: &str, arguments: &[&str], lines: &str) -> Option<String> {
        let header = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk/c");
        let mut command = Command::new(compiler);
        command.args(arguments).args([
            "-Wall",
            "-Wextra",
            "-pedantic",
            "-Werror",
            "-fsyntax-only",
            "-I",
            header,
        ]);
        command.arg("-").stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut source = child.stdin.take().expect("a pipe");
        write!(source, "#include \"selkie_plugin.h\"\n{lines}").expect("the compiler reads");
        drop(source);
        let output = child.wait_with_output().expect("it ends");
        Some(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    macro_rules! layout {
        ($($rust:ident = $c:literal { $($field:ident),* })*) => {
            [$(
                format!("_Static_assert(sizeof({}) == {}, \"size\");\n", $c, size_of::<$rust>()),
                $(format!(
                    "_Static_assert(offsetof({}, {}) == {}, \"place\");\n",
                    $c, stringify!($field), offset_of!($rust, $field),
                ),)*
            )*].concat()
        };
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a skipped test says why")]
    fn the_header_and_this_file_say_the_same() {
        let lines = layout! {
            CText = "selkie_text" { bytes, len }
            CGrid = "selkie_grid" { cells, height, width }
            CExample = "selkie_example" { input, output }
            CTask = "selkie_task" { train, train_len, test }
            CSource = "selkie_source" { title, text, completions, completions_len }
            CAnswers = "selkie_answers" { left, right }
            CGrids = "selkie_grids" { left, right }
            CEdit = "selkie_edit" { title, passage, documents, documents_len }
            CSubmission = "selkie_submission" { kind, of }
            CCall = "selkie_call" { tool, params, seed }
            CHost = "selkie_host" { state, task, document, score, refuse, log }
        } + &format!("_Static_assert(SELKIE_ABI_VERSION == {ABI_VERSION}, \"version\");\n");
        match complaints("cc", &["-std=c11", "-x", "c"], &lines) {
            Some(complaints) => assert_eq!(complaints, ""),
            None => println!("skipped: no C compiler `cc`"),
        }
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a skipped test says why")]
    fn the_header_is_c99_and_cpp() {
        for (compiler, standard, language) in [("cc", "-std=c99", "c"), ("c++", "-std=c++11", "c++")] {
            match complaints(compiler, &[standard, "-x", language], "") {
                Some(complaints) => assert_eq!(complaints, "", "{standard}"),
                None => println!("skipped: no compiler `{compiler}`"),
            }
        }
    }
}
