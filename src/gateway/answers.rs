//! Answers of the hub as the calls give them.

use tonic::Status;
use veza_engine::{Answer, Ask};
use veza_proto::v1::reply;

use super::status::{refused, refused_once};
use crate::hub::{Call, Hub};

/// Asks, and takes a refusal for what it is.
pub(super) async fn ask(hub: &Hub, call: Call, ask: Ask) -> Result<Answer, Status> {
    let has_key = call.once.is_some();
    let answer = hub.call(call, ask).await;
    if let Answer::Refused(error) = &answer {
        return Err(if has_key { refused_once(error) } else { refused(error) });
    }
    Ok(answer)
}

/// As [`ask`], where the answer is one of a session's replies.
pub(super) async fn reply(hub: &Hub, call: Call, asked: Ask) -> Result<reply::Result, Status> {
    match ask(hub, call, asked).await? {
        Answer::Reply(result) => Ok(*result),
        Answer::Joined(_)
        | Answer::Unsubscribed
        | Answer::Left
        | Answer::Published(_)
        | Answer::Page(_)
        | Answer::Refused(_) => Err(mistaken()),
    }
}

/// The hub answered something else than was asked.
pub(super) fn mistaken() -> Status {
    tracing::error!("the hub answered another question than a call had");
    Status::internal("the server made a mistake")
}

/// Takes the reply that it must be.
macro_rules! replied {
    ($reply:expr, $kind:ident) => {
        match $reply {
            veza_proto::v1::reply::Result::$kind(reply) => reply,
            _ => return Err($crate::gateway::answers::mistaken()),
        }
    };
}
pub(super) use replied;
