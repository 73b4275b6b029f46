//! Members: who is one, as what, and what was done about it.

use veza_proto::gateway::v1::MemberSanctioned;
use veza_proto::v1::{Action, Role, RoomKind, Sanction, SystemKind, SystemNote};
use veza_proto::{RoomId, UserId};

use super::actor::{Actor, Standing};
use super::append::wait;
use super::rows::{AuditRow, EntryRow, FOREVER, InviteKey, InviteRow, Joined, MemberRow, RoomRow};
use super::{Ledger, Refusal, Written};

type Decided = Result<Written, Refusal>;

impl MemberRow {
    /// What somebody is told who is no member: of a ban, where the room is one that everybody may know of.
    pub fn outside(&self, row: &RoomRow, now_ms: u64) -> Refusal {
        if self.is_banned(now_ms) && !row.is_hidden() {
            Refusal::Banned { wait_ms: wait(self.banned_until_ms, now_ms) }
        } else {
            Refusal::NoSuchRoom
        }
    }
}

impl Ledger {
    pub(super) fn join(
        &mut self,
        room: &RoomId,
        user: &UserId,
        invite: Option<&str>,
        entitlements: &[String],
        at_ms: u64,
    ) -> Decided {
        let row = self.rooms.get(room).ok_or(Refusal::NoSuchRoom)?;
        let member = self.members.get(&(room.clone(), user.clone()));
        if let Some(member) = member.filter(|member| member.joined.is_some()) {
            return Ok(Written::Joined { room: row.clone(), member: member.clone() });
        }
        if let Some(banned) = member.filter(|member| member.is_banned(at_ms)) {
            return Err(banned.outside(row, at_ms));
        }
        let (kind, role) = (row.kind, row.settings.default_role);
        let entitled = entitlements.contains(&row.settings.entitlement);
        match kind {
            RoomKind::Public | RoomKind::Unspecified => {}
            RoomKind::Premium if entitled => {}
            RoomKind::Premium => {
                let sentence = "this room is for those who hold its entitlement or are invited";
                self.use_invite(room, user, invite, at_ms).map_err(|refusal| {
                    if refusal == Refusal::NoSuchRoom { Refusal::Forbidden(sentence) } else { refusal }
                })?;
            }
            RoomKind::Private | RoomKind::Direct => self.use_invite(room, user, invite, at_ms)?,
        }
        let member = self.enter(room, user, role, at_ms);
        Ok(Written::Joined { room: self.room_mut(room).clone(), member })
    }

    /// Spends an invitation; without one the room does not exist.
    fn use_invite(&mut self, room: &RoomId, user: &UserId, code: Option<&str>, at_ms: u64) -> Result<(), Refusal> {
        let personal = InviteKey::User(room.clone(), user.clone());
        if self.invites.get(&personal).is_some_and(|invite| invite.expires_ms > at_ms) {
            self.invites.remove(&personal);
            return Ok(());
        }
        let key = InviteKey::Code(code.ok_or(Refusal::NoSuchRoom)?.to_owned());
        let invite = self.invites.get(&key).filter(|invite| invite.room == *room).ok_or(Refusal::NoSuchRoom)?;
        let used_up = invite.uses_max != 0 && invite.uses >= invite.uses_max;
        if invite.expires_ms <= at_ms || used_up {
            return Err(Refusal::NotFound("this invitation has expired or was used up"));
        }
        self.invites.edit(&key).expect("it was found just now").uses += 1;
        Ok(())
    }

    /// A service lets a user in, whatever the room's kind.
    pub(super) fn admit(&mut self, room: &RoomId, user: &UserId, service: &UserId, at_ms: u64) -> Decided {
        let row = self.rooms.get(room).ok_or(Refusal::NoSuchRoom)?;
        let member = self.members.get(&(room.clone(), user.clone()));
        if let Some(member) = member.filter(|member| member.joined.is_some()) {
            return Ok(Written::Joined { room: row.clone(), member: member.clone() });
        }
        if row.kind == RoomKind::Direct {
            return Err(Refusal::Forbidden("a direct room has two people"));
        }
        if member.is_some_and(|member| member.is_banned(at_ms)) {
            return Err(Refusal::Forbidden("this user is banned from the room"));
        }
        let role = row.settings.default_role;
        self.invites.remove(&InviteKey::User(room.clone(), user.clone()));
        let member = self.enter(room, user, role, at_ms);
        self.audit_member(room, service, "add_member", Some(user.clone()), at_ms);
        Ok(Written::Joined { room: self.room_mut(room).clone(), member })
    }

    pub(super) fn leave(&mut self, room: &RoomId, user: &UserId, ended_by: Option<&UserId>, at_ms: u64) -> Decided {
        let (row, _, role) = self.member(room, user)?;
        if row.kind == RoomKind::Direct {
            return Err(Refusal::Forbidden("a direct room cannot be left"));
        }
        if role == Role::Owner && row.members > 1 {
            return Err(Refusal::Forbidden("make somebody else the owner before you leave"));
        }
        self.exit(room, user);
        self.tell_left(room, user, ended_by, Sanction::Unspecified, at_ms);
        if let Some(service) = ended_by {
            self.audit_member(room, service, "remove_member", Some(user.clone()), at_ms);
        }
        Ok(Written::Left { room: self.room_mut(room).clone() })
    }

    pub(super) fn set_role(&mut self, room: &RoomId, actor: &Actor, user: &UserId, role: Role, at_ms: u64) -> Decided {
        let own = self.may(room, actor, Action::Manage)?;
        if self.standing(room, actor)?.0.kind == RoomKind::Direct {
            return Err(Refusal::Forbidden("a direct room has no roles"));
        }
        let key = (room.clone(), user.clone());
        let current = self.members.get(&key).and_then(MemberRow::role).ok_or(Refusal::NotFound(NO_SUCH_MEMBER))?;
        let hands_over = own >= Standing::Member(Role::Owner) && role == Role::Owner;
        if Standing::Member(current) >= own || (Standing::Member(role) >= own && !hands_over) {
            return Err(Refusal::Forbidden("you may give only roles below your own, to members below it"));
        }
        if hands_over {
            for owner in self.owners(room).into_iter().filter(|owner| owner != user) {
                self.give_role(room, &owner, Role::Admin);
                self.tell_role(room, &owner, actor.id(), Role::Admin, at_ms);
            }
        }
        if current != role {
            self.give_role(room, user, role);
            self.tell_role(room, user, actor.id(), role, at_ms);
        }
        let note = SystemNote {
            kind: SystemKind::RoleChanged.into(),
            user: String::from(user),
            role: role.into(),
            ..SystemNote::default()
        };
        let detail = role.as_str_name().trim_start_matches("ROLE_").to_lowercase();
        let actor = actor.id();
        let done = Done { room, actor, user, action: "set_role", reason: "", detail: format!("role {detail}"), at_ms };
        Ok(self.member_changed(&done, Some(note)))
    }

    #[expect(clippy::too_many_arguments, reason = "a sanction has that many parts")]
    pub(super) fn moderate(
        &mut self,
        room: &RoomId,
        actor: &Actor,
        user: &UserId,
        sanction: Sanction,
        reason: &str,
        seconds: u64,
        at_ms: u64,
    ) -> Decided {
        let own = self.may(room, actor, Action::Moderate)?;
        if self.standing(room, actor)?.0.kind == RoomKind::Direct {
            return Err(Refusal::Forbidden("a direct room has no moderators"));
        }
        let key = (room.clone(), user.clone());
        let before = self.members.get(&key).cloned().unwrap_or_else(MemberRow::stranger);
        let actor = actor.id();
        if before.role().is_some_and(|role| Standing::Member(role) >= own) || actor == user {
            return Err(Refusal::Forbidden("you may do this only to members below your own role"));
        }
        let until_ms = match seconds {
            0 => FOREVER,
            seconds => at_ms.saturating_add(seconds.saturating_mul(1_000)).min(FOREVER),
        };
        let is_member = before.joined.is_some();
        let mut member = MemberRow { reason: reason.to_owned(), ..before };
        let (action, kind) = match sanction {
            Sanction::Mute if is_member => {
                member.muted_until_ms = until_ms;
                ("mute", SystemKind::Muted)
            }
            Sanction::Kick if is_member => {
                member.banned_until_ms = if seconds == 0 { 0 } else { until_ms };
                ("kick", SystemKind::Kicked)
            }
            Sanction::Ban => {
                member.banned_until_ms = until_ms;
                ("ban", SystemKind::Banned)
            }
            Sanction::Unmute if member.muted_until_ms > at_ms => {
                (member.muted_until_ms, member.reason) = (0, String::new());
                ("unmute", SystemKind::Unmuted)
            }
            Sanction::Unban if member.is_banned(at_ms) => {
                (member.banned_until_ms, member.reason) = (0, String::new());
                ("unban", SystemKind::Unbanned)
            }
            Sanction::Mute | Sanction::Kick => return Err(Refusal::NotFound(NO_SUCH_MEMBER)),
            Sanction::Unmute => return Err(Refusal::NotFound("this member is not muted")),
            Sanction::Unban => return Err(Refusal::NotFound("this user is not banned")),
            Sanction::Unspecified => return Err(Refusal::Invalid("sanction must be named")),
        };
        self.members.put(key, member);
        if matches!(sanction, Sanction::Kick | Sanction::Ban) {
            self.exit(room, user);
        }
        let lasts = matches!(sanction, Sanction::Mute | Sanction::Ban) || (sanction == Sanction::Kick && seconds > 0);
        let detail = match seconds {
            _ if !lasts => String::new(),
            0 => "until lifted".to_owned(),
            seconds => format!("for {seconds} s"),
        };
        let note = SystemNote {
            kind: kind.into(),
            user: String::from(user),
            until_ms: if lasts { until_ms } else { 0 },
            ..SystemNote::default()
        };
        let done = Done { room, actor, user, action, reason, detail, at_ms };
        let sanctioned = MemberSanctioned {
            sanction: sanction.into(),
            until_ms: note.until_ms,
            reason: reason.to_owned(),
            actor: String::from(actor),
        };
        let written = self.member_changed(&done, Some(note));
        self.tell_sanction(room, user, sanctioned, at_ms);
        if is_member && matches!(sanction, Sanction::Kick | Sanction::Ban) {
            self.tell_left(room, user, Some(actor), sanction, at_ms);
        }
        Ok(written)
    }

    pub(super) fn invite(
        &mut self,
        room: &RoomId,
        actor: &Actor,
        key: &InviteKey,
        uses_max: u32,
        expires_ms: u64,
        at_ms: u64,
    ) -> Decided {
        self.may(room, actor, Action::Invite)?;
        if self.standing(room, actor)?.0.kind == RoomKind::Direct {
            return Err(Refusal::Forbidden("a direct room has two people"));
        }
        let user = match key {
            InviteKey::Code(_) => None,
            InviteKey::User(_, user) => {
                let member = self.members.get(&(room.clone(), user.clone()));
                if member.is_some_and(|member| member.joined.is_some()) {
                    return Err(Refusal::Invalid("this user is a member already"));
                }
                if member.is_some_and(|member| member.is_banned(at_ms)) {
                    return Err(Refusal::Forbidden("this user is banned from the room"));
                }
                Some(user.clone())
            }
        };
        let row = InviteRow {
            room: room.clone(),
            user: user.clone(),
            creator: actor.id().clone(),
            created_ms: at_ms,
            expires_ms,
            uses_max,
            uses: 0,
        };
        self.invites.put(key.clone(), row.clone());
        self.audit_member(room, actor.id(), "invite", user, at_ms);
        Ok(Written::Invited(key.clone(), row))
    }

    pub(super) fn revoke_invite(&mut self, room: &RoomId, actor: &Actor, key: &InviteKey, at_ms: u64) -> Decided {
        self.standing(room, actor)?;
        let invite = self.invites.get(key).filter(|invite| invite.room == *room);
        let invite = invite.ok_or(Refusal::NotFound("no such invitation"))?;
        let user = invite.user.clone();
        if invite.creator != *actor.id() {
            self.may(room, actor, Action::Moderate)?;
        }
        self.invites.remove(key);
        self.audit_member(room, actor.id(), "revoke_invite", user, at_ms);
        Ok(Written::InviteRevoked)
    }

    /// Watermarks rise, up to the head, and never fall.
    pub(super) fn mark(&mut self, room: &RoomId, user: &UserId, delivered_seq: u64, read_seq: u64) -> Decided {
        let (row, member, _) = self.member(room, user)?;
        let read = read_seq.min(row.head).max(member.read_seq);
        let delivered = delivered_seq.min(row.head).max(member.delivered_seq).max(read);
        let messages = if read == row.head {
            Some(row.messages)
        } else {
            self.entries.get(&(room.clone(), read)).map(|entry| entry.messages)
        };
        let messages = messages.unwrap_or(row.messages_expired).max(member.read_messages);
        if (read, delivered) == (member.read_seq, member.delivered_seq) {
            return Ok(Written::Marked { member: member.clone() });
        }
        let member = self.members.edit(&(room.clone(), user.clone())).expect("it was found just now");
        (member.read_seq, member.delivered_seq, member.read_messages) = (read, delivered, messages);
        Ok(Written::Marked { member: member.clone() })
    }

    /// Who owns the room: one, or nobody where the server or a service made it.
    fn owners(&self, room: &RoomId) -> Vec<UserId> {
        let owns =
            |((of, _), member): &(&(RoomId, UserId), &MemberRow)| of == room && member.role() == Some(Role::Owner);
        self.members.iter().filter(owns).map(|((_, user), _)| user.clone()).collect()
    }

    fn give_role(&mut self, room: &RoomId, user: &UserId, role: Role) {
        let member = self.members.edit(&(room.clone(), user.clone())).expect("it was found before");
        let at_ms = member.joined.map_or(0, |joined| joined.at_ms);
        member.joined = Some(Joined { role, at_ms });
    }

    fn exit(&mut self, room: &RoomId, user: &UserId) {
        let member = self.members.edit(&(room.clone(), user.clone())).expect("it was found before");
        if member.joined.take().is_some() {
            self.room_mut(room).members -= 1;
        }
        self.room_mut(room).revision += 1;
        self.invites.remove(&InviteKey::User(room.clone(), user.clone()));
    }

    /// The answer, the note and the audit entry of what was done to a member.
    fn member_changed(&mut self, done: &Done<'_>, note: Option<SystemNote>) -> Written {
        let Done { room, actor, user, action, reason, detail, at_ms } = done;
        self.room_mut(room).revision += 1;
        let note: Option<EntryRow> = note.map(|note| self.push_note(room, actor, note, *at_ms));
        self.note_audit(
            room,
            AuditRow {
                at_ms: *at_ms,
                actor: (*actor).clone(),
                action: (*action).into(),
                user: Some((*user).clone()),
                seq: 0,
                reason: (*reason).to_owned(),
                detail: detail.clone(),
            },
        );
        let row: RoomRow = self.room_mut(room).clone();
        let member = self.members.get(&((*room).clone(), (*user).clone())).cloned();
        let member = member.expect("something was done to this member");
        Written::Member { room: row, user: (*user).clone(), member, note }
    }

    fn audit_member(&mut self, room: &RoomId, actor: &UserId, action: &'static str, user: Option<UserId>, at_ms: u64) {
        let (reason, detail) = (String::new(), String::new());
        self.note_audit(
            room,
            AuditRow { at_ms, actor: actor.clone(), action: action.into(), user, seq: 0, reason, detail },
        );
    }
}

/// Something was done to a member.
struct Done<'a> {
    room: &'a RoomId,
    actor: &'a UserId,
    user: &'a UserId,
    action: &'static str,
    reason: &'a str,
    detail: String,
    at_ms: u64,
}

const NO_SUCH_MEMBER: &str = "no such member";
