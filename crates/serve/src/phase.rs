//! Where the server is in its life: it serves, lets what is in flight end, or withdraws it.

use tokio::sync::watch;

/// Stages, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Draining,
    Withdrawn,
}

/// The stage as those see it who act on it.
#[derive(Debug, Clone)]
pub struct Phase(watch::Receiver<Stage>);

/// The stage as it is set. Dropping it withdraws everything.
#[derive(Debug)]
pub struct Stages(watch::Sender<Stage>);

impl Stages {
    /// A server that serves.
    pub fn serving() -> (Self, Phase) {
        let (sender, receiver) = watch::channel(Stage::Serving);
        (Self(sender), Phase(receiver))
    }

    /// Admit nothing new.
    pub fn drain(&self) {
        self.0.send_replace(Stage::Draining);
    }

    /// End what is in flight.
    pub fn withdraw(&self) {
        self.0.send_replace(Stage::Withdrawn);
    }
}

impl Phase {
    /// Whether new requests are taken.
    pub fn is_serving(&self) -> bool {
        *self.0.borrow() == Stage::Serving && self.0.has_changed().is_ok()
    }

    /// Resolves when what is in flight must end.
    pub async fn withdrawn(&mut self) {
        // An error means that the server is gone.
        let _ = self.0.wait_for(|stage| *stage == Stage::Withdrawn).await;
    }
}
