//! In whose name something is asked, and where the answer goes.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use veza_engine::ledger::{Actor, OnceKey, Write};
use veza_engine::{Answer, Ticket};
use veza_proto::UserId;

use super::Caller;
use super::mailbox::Mailbox;

/// A session's command or a call of the platform's backend, on its way. Cheap to clone; it is answered once.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) actor: Actor,
    /// Of a write that is to happen once.
    pub(super) once: Option<OnceKey>,
    answers: Answers,
}

#[derive(Debug, Clone)]
enum Answers {
    Session(Arc<Mailbox>, Ticket),
    Call(Arc<Mutex<Option<oneshot::Sender<Answer>>>>),
}

impl Asker {
    /// A call, and where its answer arrives.
    pub(super) fn call(actor: Actor, once: Option<OnceKey>) -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self { actor, once, answers: Answers::Call(Arc::new(Mutex::new(Some(sender)))) }, receiver)
    }

    /// The user, or what a service is called.
    pub(super) fn id(&self) -> &UserId {
        self.actor.id()
    }

    /// Sessions were asked whether they are in a room before they read it; calls were not.
    pub(super) fn is_call(&self) -> bool {
        matches!(self.answers, Answers::Call(_))
    }

    pub(super) fn answer(&self, answer: Answer) {
        match &self.answers {
            Answers::Session(mailbox, ticket) => mailbox.answer(ticket.clone(), answer),
            Answers::Call(sender) => {
                let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
                // Whoever does not wait any more needs no answer.
                let _gone = sender.map(|sender| sender.send(answer));
            }
        }
    }

    /// The write, as one that happens once where it has a key.
    pub(super) fn keyed(&self, write: Write, at_ms: u64) -> Write {
        match &self.once {
            Some(key) => Write::Once { key: key.clone(), write: Box::new(write), at_ms },
            None => write,
        }
    }
}

impl Caller {
    pub(super) fn asker(&self, ticket: &Ticket) -> Asker {
        let answers = Answers::Session(Arc::clone(&self.mailbox), ticket.clone());
        Asker { actor: Actor::User(self.user.clone()), once: None, answers }
    }
}
