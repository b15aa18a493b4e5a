//! What asks a server to end: Ctrl-C, and SIGTERM or a closed window.

use std::io;

use tokio::select;
#[cfg(unix)]
use tokio::signal::unix::{
    Signal as CtrlC, Signal as Termination, SignalKind, signal,
};
#[cfg(windows)]
use tokio::signal::windows::{
    CtrlC, CtrlClose as Termination, ctrl_c, ctrl_close,
};

// ANCHOR: signals
/// What has come since [`Signals::new`] and was not received yet. One that
/// comes while nobody waits is kept.
pub struct Signals {
    ctrl_c: CtrlC,
    termination: Termination,
}

impl Signals {
    /// From now on a signal ends nothing: whoever receives it has to.
    #[cfg(unix)]
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            ctrl_c: signal(SignalKind::interrupt())?,
            termination: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(windows)]
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            ctrl_c: ctrl_c()?,
            termination: ctrl_close()?,
        })
    }

    /// Waits for one of them.
    pub async fn recv(&mut self) {
        select! {
            _ = self.ctrl_c.recv() => {}
            _ = self.termination.recv() => {}
        }
    }
}
// ANCHOR_END: signals
