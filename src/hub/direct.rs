use veza_engine::ledger::DIRECT_PREFIX;
use veza_proto::{RoomId, UserId};

/// The one room of two users, whoever opens it: `dm.` and the first 16 bytes of SHA-256 over both names in their order.
pub(super) fn room_of(one: &UserId, other: &UserId) -> RoomId {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    // No user's id holds a control character, so the pair can be taken apart in one way only.
    let pair = format!("{first}\0{second}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pair.as_bytes());
    let hex: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    RoomId::parse(&format!("{DIRECT_PREFIX}{hex}")).expect("hexadecimal digits and a dot make an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_open_the_same_room_and_nobody_else_does() {
        let user = |name: &str| UserId::parse(name).unwrap();
        let room = room_of(&user("alice"), &user("bob"));
        assert_eq!(room, room_of(&user("bob"), &user("alice")));
        assert_ne!(room, room_of(&user("alic"), &user("ebob")));
        assert_eq!(room.as_str().len(), 35);
    }
}
