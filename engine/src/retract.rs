//! Messages that were deleted before they were sent: they go out as tombstones, wherever they wait.

use veza_proto::Encoded;
use veza_proto::v1::{Message, MessageDelivered, Tombstone, message::Change, push, server_frame};

/// The frame without what it told of `target`, if it did: the message itself, or an edit of it. `deletion` is the frame
/// that deletes it.
pub fn retracted(frame: &Encoded, target: u64, deletion: &Encoded) -> Option<Encoded> {
    let by = message_of(deletion)?;
    let message = message_of(frame).filter(|message| tells_of(message, target))?;
    let mut message = message.clone();
    blank(&mut message, by);
    Some(Encoded::push(push::Event::Message(MessageDelivered { message: Some(message) })))
}

/// What a deletion takes back.
pub(crate) fn target_of(message: &Message) -> Option<u64> {
    match &message.change {
        Some(Change::Deletion(deletion)) => Some(deletion.target),
        Some(Change::Edit(_) | Change::Reaction(_) | Change::Pin(_) | Change::System(_)) | None => None,
    }
}

/// Whether it still shows content of `target`.
pub(crate) fn tells_of(message: &Message, target: u64) -> bool {
    match &message.change {
        None => message.seq == target && message.deleted.is_none(),
        Some(Change::Edit(edit)) => edit.target == target && !edit.body.is_empty(),
        Some(Change::Deletion(_) | Change::Reaction(_) | Change::Pin(_) | Change::System(_)) => false,
    }
}

/// Takes out the content of a message or of an edit, as `deletion` has it.
pub(crate) fn blank(message: &mut Message, deletion: &Message) {
    match &mut message.change {
        None => {
            message.body.clear();
            message.mentions.clear();
            message.attachments.clear();
            message.reactions.clear();
            message.deleted = Some(Tombstone { by: deletion.author.clone(), at_ms: deletion.at_ms });
        }
        Some(Change::Edit(edit)) => {
            edit.body.clear();
            edit.mentions.clear();
        }
        Some(Change::Deletion(_) | Change::Reaction(_) | Change::Pin(_) | Change::System(_)) => {}
    }
}

fn message_of(frame: &Encoded) -> Option<&Message> {
    let Some(server_frame::Frame::Push(push)) = &frame.frame().frame else { return None };
    let Some(push::Event::Message(delivered)) = &push.event else { return None };
    delivered.message.as_ref()
}
