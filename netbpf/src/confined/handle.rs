//! A handle on the task that owns a [`Keeper`]: the task carries out orders one after another, and restarts the process
//! when it is lost. Must not know what the orders mean.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{Keeper, Message, State};

/// How many orders may wait; who gives more waits, too.
const WAITING: usize = 64;
/// How long a process that is not needed goes on after the last order. To start one takes longer than most orders.
const IDLE: Duration = Duration::from_secs(10);

/// The task behind a handle has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the daemon does not manage the {0} any more")]
pub struct Ended(&'static str);

/// A state that is changed by orders.
pub(crate) trait Obey: State + Sized + Send + 'static {
    /// A change of the state, or of the process.
    type Order: Send + 'static;
    /// Why an order was not carried out.
    type Error: From<Ended> + Send + 'static;

    /// Carries out an order: changes the state and tells the process.
    fn perform(
        keeper: &mut Keeper<Self>,
        order: Self::Order,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Whether there is anything for the process to do. Otherwise it ends soon, and is not started again.
    fn needs_process(&self) -> bool;

    /// The request that ends the process.
    fn last_request() -> Message<'static>;
}

/// Gives orders to the task. When the last handle is dropped, the task ends and the process goes on.
pub(crate) struct Handle<S: Obey> {
    name: &'static str,
    orders: mpsc::Sender<Pending<S>>,
}

struct Pending<S: Obey> {
    /// `None`: end the process and the task.
    order: Option<S::Order>,
    done: oneshot::Sender<Result<(), S::Error>>,
}

impl<S: Obey> Handle<S> {
    /// Starts the task. Needs a tokio runtime.
    pub(crate) fn spawn(keeper: Keeper<S>) -> Self {
        let name = keeper.name();
        let (orders, pending) = mpsc::channel(WAITING);
        tokio::spawn(obey(keeper, pending));
        Self { name, orders }
    }

    /// Gives an order and waits until it is carried out.
    pub(crate) async fn order(&self, order: S::Order) -> Result<(), S::Error> {
        self.give(Some(order)).await
    }

    /// Ends the process and the task. Further orders fail with [`Ended`].
    pub(crate) async fn stop(&self) -> Result<(), S::Error> {
        self.give(None).await
    }

    async fn give(&self, order: Option<S::Order>) -> Result<(), S::Error> {
        let ended = || Ended(self.name);
        let (done, outcome) = oneshot::channel();
        self.orders.send(Pending { order, done }).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }
}

impl<S: Obey> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { name: self.name, orders: self.orders.clone() }
    }
}

async fn obey<S: Obey>(mut keeper: Keeper<S>, mut pending: mpsc::Receiver<Pending<S>>) {
    loop {
        let is_needed = keeper.state.needs_process();
        let (is_watched, is_idle) = (is_needed || keeper.is_running(), !is_needed && keeper.is_running());
        tokio::select! {
            next = pending.recv() => {
                let Some(Pending { order, done }) = next else { return };
                // In both cases, whoever waited for the end may have stopped waiting.
                let Some(order) = order else {
                    keeper.stop(S::last_request()).await;
                    let _ = done.send(Ok(()));
                    return;
                };
                let _ = done.send(S::perform(&mut keeper, order).await);
            }
            () = keeper.lost(), if is_watched => match is_needed {
                true => keeper.restart().await,
                false => keeper.stop(S::last_request()).await,
            },
            () = sleep(IDLE), if is_idle => keeper.stop(S::last_request()).await,
        }
    }
}
