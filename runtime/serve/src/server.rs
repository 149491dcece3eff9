//! Listening, and stopping: connections are accepted up to a bound, and the end has an order.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use selkie_engine::live::Live;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::options::{Limits, ServeError, ServeOptions};
use crate::patient::Patient;

/// How long nothing is accepted after the system has refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time for the last words of streams that the end of the runtime has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Time for an edit that is abandoned to come to its next step. One that does not is left to the end of the process: the
/// store has it whole or not at all.
const ABANDONED: Duration = Duration::from_secs(10);

/// A server that listens. Nothing is answered before [`Server::run`].
#[derive(Debug)]
pub struct Server {
    app: App,
    listener: TcpListener,
    stopper: Stopper,
}

/// Ends a server. Clones end the same one.
#[derive(Debug, Clone, Default)]
pub struct Stopper {
    stopping: CancellationToken,
    abandoning: CancellationToken,
}

impl Stopper {
    /// The first call lets running requests and the running edit finish, within the limits; the second abandons them.
    pub fn stop(&self) {
        if self.stopping.is_cancelled() {
            self.abandoning.cancel();
        }
        self.stopping.cancel();
    }

    /// Cancelled from the first call on.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// Those of [`ServeOptions::check`], an address that cannot be had, and a folder of adapters that is none.
    pub async fn bind(live: Live, options: ServeOptions) -> Result<Server, ServeError> {
        options.check()?;
        let address = options.address;
        let stopper = Stopper::default();
        let app = App::new(live, options, stopper.clone())?;
        let listener =
            TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
        Ok(Server { app, listener, stopper })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What ends it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Answers until it is stopped. Then, in this order: nothing more is accepted, running requests finish, the
    /// running edit finishes, and the runtime has stopped. What takes longer than its limit is abandoned, and so is
    /// everything after the second order to stop; an edit that does not even notice that within ten seconds is left
    /// behind.
    pub async fn run(self) {
        let Server { app, listener, stopper } = self;
        let (limits, live) = (app.options().limits.clone(), app.live().clone());
        let (tracker, cut) = (TaskTracker::new(), CancellationToken::new());
        let connections = Connections { router: app.router(), stopper, cut, tracker, limits, app };
        connections.accept(listener).await;
        connections.end(live).await;
    }
}

/// What the connections of a server share.
struct Connections {
    router: Router,
    app: App,
    limits: Limits,
    stopper: Stopper,
    /// Ends connections wherever they are.
    cut: CancellationToken,
    tracker: TaskTracker,
}

impl Connections {
    async fn accept(&self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            let next = async {
                let permit = room.clone().acquire_owned().await.ok();
                (listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                accepted = next => accepted,
                () = self.stopper.stopping.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file handles, say: those that are open must end first.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let connection = self.connection(stream);
            let open = self.app.metrics().connection();
            self.tracker.spawn(async move {
                connection.await;
                drop((permit, open));
            });
        }
    }

    /// One connection, until it ends.
    fn connection(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + use<> {
        // Small pieces of a streamed answer are not to wait for each other.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(Patient::new(stream, self.limits.write));
        let service = TowerToHyperService::new(self.router.clone());
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.limits.head);
        let (stopping, cut) = (self.stopper.stopping.clone(), self.cut.clone());
        async move {
            let mut connection = pin!(builder.serve_connection(io, service));
            let stopped = tokio::select! {
                // Whatever went wrong with one client is that client's.
                _ = connection.as_mut() => false,
                () = stopping.cancelled() => true,
            };
            if stopped {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    _ = connection => {}
                    () = cut.cancelled() => {}
                }
            }
        }
    }

    async fn end(&self, live: Live) {
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => {}
            () = tokio::time::sleep(self.limits.grace) => {}
            () = self.stopper.abandoning.cancelled() => {}
        }
        self.end_runtime(live).await;
        let _ = tokio::time::timeout(LAST_WORDS, self.tracker.wait()).await;
        self.cut.cancel();
        self.tracker.wait().await;
    }

    async fn end_runtime(&self, live: Live) {
        let abandoned = live.clone();
        let mut finishing = tokio::task::spawn_blocking(move || live.shutdown(true));
        let finished = tokio::select! {
            _ = &mut finishing => true,
            () = tokio::time::sleep(self.limits.finish) => false,
            () = self.stopper.abandoning.cancelled() => false,
        };
        if !finished {
            let abandoning = tokio::task::spawn_blocking(move || abandoned.shutdown(false));
            let ended = async { (abandoning.await, finishing.await) };
            let _ = tokio::time::timeout(ABANDONED, ended).await;
        }
    }
}
