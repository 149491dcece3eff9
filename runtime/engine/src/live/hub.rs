//! Numbers events and hands them to whoever listens.

use std::sync::Mutex;

use tokio::sync::broadcast;

use super::trace::{Happened, TraceEvent};

/// Events that a slow listener may be behind; older ones it misses.
const BEHIND_MAX: usize = 4096;

pub(super) struct Hub {
    clock: fn() -> i64,
    /// Held while an event is numbered and sent, so that they arrive in order.
    last: Mutex<u64>,
    events: Mutex<Option<broadcast::Sender<TraceEvent>>>,
}

impl Hub {
    pub(super) fn new(clock: fn() -> i64) -> Hub {
        let events = Mutex::new(Some(broadcast::channel(BEHIND_MAX).0));
        Hub { clock, last: Mutex::new(0), events }
    }

    pub(super) fn tell(&self, request: Option<&str>, edit: Option<&str>, what: Happened) -> TraceEvent {
        let mut last = super::locked(&self.last);
        *last += 1;
        let (request, edit) = (request.map(str::to_owned), edit.map(str::to_owned));
        let event = TraceEvent { number: *last, time_ms: (self.clock)(), request, edit, what };
        if let Some(events) = &*super::locked(&self.events) {
            // Nobody may be listening.
            let _ = events.send(event.clone());
        }
        event
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<TraceEvent> {
        match &*super::locked(&self.events) {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// Nothing more will happen.
    pub(super) fn close(&self) {
        super::locked(&self.events).take();
    }
}
