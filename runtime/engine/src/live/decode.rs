//! The thread that decodes: all streams in shared passes, a token of each in turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use selkie_learn::{StreamEvent, Streams};

use super::core::{Core, EditOver};
use super::reply::EndReason;
use super::talk::{Opening, Talk};

/// Prompts whose keys and values are kept, so that the same prompt need not be run again.
const CACHED_PROMPTS: usize = 8;

/// How often the thread looks for clients that have gone, while nothing is decoded.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long it sleeps where there is nobody who could go.
const IDLE: Duration = Duration::from_secs(3600);

/// What the thread is told.
pub(super) enum Command {
    /// A request.
    Open(Box<Opening>),
    /// An edit of a request ended.
    EditOver(Box<EditOver>),
    /// End everything.
    Close,
}

/// The streams and what is known of each.
struct Desk<'c> {
    core: &'c Core,
    streams: Streams,
    talks: BTreeMap<u64, Talk<'c>>,
    waiting: VecDeque<Box<Opening>>,
}

/// Until it is told to close.
pub(super) fn run(core: &Core, commands: &Receiver<Command>) {
    let streams = Streams::new(CACHED_PROMPTS);
    let mut desk = Desk { core, streams, talks: BTreeMap::new(), waiting: VecDeque::new() };
    loop {
        if !desk.has_work() {
            match commands.recv_timeout(if desk.is_idle() { IDLE } else { LOOK_EVERY }) {
                Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(command) => desk.take(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let closed = loop {
            match commands.try_recv() {
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => break true,
                Ok(command) => desk.take(command),
                Err(TryRecvError::Empty) => break false,
            }
        };
        if closed {
            break;
        }
        desk.let_go();
        desk.admit();
        desk.advance();
    }
    desk.close();
}

impl<'c> Desk<'c> {
    /// Requests that wait for an edit take no room: how many there can be, the queue of edits bounds.
    fn has_room(&self) -> bool {
        self.running() < self.core.options.streams.max(1)
    }

    fn running(&self) -> usize {
        self.talks.values().filter(|talk| !talk.waits()).count()
    }

    fn is_idle(&self) -> bool {
        self.talks.is_empty() && self.waiting.is_empty()
    }

    fn has_work(&self) -> bool {
        self.streams.is_running() || (self.has_room() && !self.waiting.is_empty())
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Open(opening) => self.waiting.push_back(opening),
            Command::EditOver(over) => {
                if let Some(mut talk) = self.talks.remove(&over.number) {
                    let number = over.number;
                    talk.edit_over(*over, &mut self.streams);
                    self.put_back(number, talk);
                }
            }
            Command::Close => {}
        }
    }

    /// Ends requests whose client has gone before anything was said to it that would show it.
    fn let_go(&mut self) {
        let gone = |(&number, talk): (&u64, &Talk<'_>)| (talk.waits() && talk.is_gone()).then_some(number);
        for number in self.talks.iter().filter_map(gone).collect::<Vec<_>>() {
            if let Some(mut talk) = self.talks.remove(&number) {
                talk.end(EndReason::Cancelled);
                self.put_back(number, talk);
            }
        }
        for opening in std::mem::take(&mut self.waiting) {
            if opening.reply.is_closed() {
                Talk::refuse(self.core, *opening);
            } else {
                self.waiting.push_back(opening);
            }
        }
    }

    /// Opens streams for requests that wait, while there is room.
    fn admit(&mut self) {
        while self.has_room() {
            let Some(opening) = self.waiting.pop_front() else { break };
            let number = opening.number;
            let talk = Talk::open(self.core, *opening, &mut self.streams);
            self.put_back(number, talk);
        }
        self.count();
    }

    /// One token for every stream that runs.
    fn advance(&mut self) {
        if !self.streams.is_running() {
            return;
        }
        let events = self.streams.advance(self.core.runtime.model.decoder());
        self.core.count(|stats| stats.passes += 1);
        for (number, event) in events {
            let Some(mut talk) = self.talks.remove(&number) else { continue };
            match event {
                StreamEvent::Token(id, log_prob) => talk.token(id, log_prob, &mut self.streams),
                StreamEvent::Ended(reason) => talk.stream_ended(reason, &mut self.streams),
                StreamEvent::Failed(error) => talk.fail(&error.to_string()),
            }
            self.put_back(number, talk);
        }
        self.count();
    }

    /// Keeps a request that goes on, and forgets one that has ended.
    fn put_back(&mut self, number: u64, talk: Talk<'c>) {
        if talk.has_ended() {
            self.streams.close(number);
        } else {
            self.talks.insert(number, talk);
        }
    }

    fn count(&self) {
        let (streams, waiting) = (self.running(), self.waiting.len());
        self.core.count(|stats| (stats.streams, stats.waiting) = (streams, waiting));
    }

    fn close(mut self) {
        for (_, mut talk) in std::mem::take(&mut self.talks) {
            talk.end(EndReason::Cancelled);
        }
        for opening in std::mem::take(&mut self.waiting) {
            Talk::refuse(self.core, *opening);
        }
    }
}
