//! Lines from standard input, by a person or a script, and Ctrl-C.

use std::io::{BufRead, IsTerminal, Read};

use tokio::sync::mpsc;

use crate::error::CommandError;

/// Bytes of a line. A puzzle of ARC's largest size in JSON has a quarter of it.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Where lines come from.
pub(super) struct Input {
    lines: mpsc::Receiver<String>,
    /// A script's lines are shown, so that what is printed reads like the conversation.
    echo: bool,
    interrupts: Interrupts,
}

impl Input {
    /// Standard input, which a thread of its own reads.
    pub(super) fn stdin() -> Input {
        let (send, lines) = mpsc::channel(1);
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            loop {
                let mut line = Vec::new();
                match (&mut stdin).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                    Ok(1..) => {}
                    _ => return,
                }
                if send.blocking_send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        Input { lines, echo: !std::io::stdin().is_terminal(), interrupts: Interrupts::new() }
    }

    /// Waits for Ctrl-C.
    pub(super) async fn interrupted(&mut self) {
        self.interrupts.next().await;
    }

    /// The next command. A Ctrl-C that came too late for what went before is not meant for it.
    pub(super) async fn command(&mut self) -> Result<Option<String>, CommandError> {
        self.interrupts = Interrupts::new();
        self.line("> ").await
    }

    /// The next line; none at the end of the input and after Ctrl-C.
    async fn line(&mut self, prompt: &str) -> Result<Option<String>, CommandError> {
        if !self.echo {
            super::super::print(prompt)?;
        }
        let line = tokio::select! {
            line = self.lines.recv() => line,
            () = self.interrupts.next() => None,
        };
        match &line {
            Some(line) if self.echo => super::super::print(&format!("{prompt}{line}\n"))?,
            None if !self.echo => super::super::print("\n")?,
            _ => {}
        }
        Ok(line)
    }

    /// Asks until the answer is one of the two. No answer is a no.
    pub(super) async fn yes_or_no(&mut self, question: &str) -> Result<bool, CommandError> {
        loop {
            match self.line(question).await?.as_deref().map(str::trim) {
                Some("y" | "yes") => return Ok(true),
                Some("n" | "no") | None => return Ok(false),
                Some(_) => {}
            }
        }
    }
}

/// Ctrl-C. One that comes while nobody waits for it is there when somebody does.
struct Interrupts {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Interrupts {
    #[cfg(unix)]
    fn new() -> Interrupts {
        use tokio::signal::unix::{SignalKind, signal};
        Interrupts { signal: signal(SignalKind::interrupt()).ok() }
    }

    #[cfg(not(unix))]
    fn new() -> Interrupts {
        Interrupts {}
    }

    /// Waits for the next. Where it cannot be heard, for ever: then it ends the program, as it does without us.
    async fn next(&mut self) {
        #[cfg(unix)]
        let heard = match &mut self.signal {
            Some(signal) => signal.recv().await.is_some(),
            None => false,
        };
        #[cfg(not(unix))]
        let heard = tokio::signal::ctrl_c().await.is_ok();
        if !heard {
            std::future::pending::<()>().await;
        }
    }
}
