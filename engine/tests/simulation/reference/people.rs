//! Who is in a room, as what, and what others do about it.

use veza_engine::ledger::{FOREVER, InviteKey, RoomUpdate, Write};
use veza_proto::v1::{Action, Role, RoomKind, Sanction, SystemKind, SystemNote};

use super::{Code, Expected, Person, Room, Why};

type Decided = Result<Expected, Vec<Why>>;

impl Room {
    pub(super) fn apply(&mut self, write: &Write) -> Decided {
        match write {
            Write::CreateRoom { .. } | Write::OpenDirect { .. } => Ok(Expected::Exists),
            Write::UpdateRoom { actor, update, at_ms, .. } => self.update(actor.as_str(), update, *at_ms),
            Write::Join { user, invite, entitlements, at_ms, .. } => {
                self.join(user.as_str(), invite.as_deref(), entitlements, *at_ms)
            }
            Write::Leave { user, .. } => self.leave(user.as_str()),
            Write::SetRole { actor, user, role, at_ms, .. } => {
                self.set_role(actor.as_str(), user.as_str(), *role, *at_ms)
            }
            Write::Moderate { actor, user, sanction, seconds, at_ms, .. } => {
                self.moderate(actor.as_str(), user.as_str(), *sanction, *seconds, *at_ms)
            }
            Write::Invite { actor, key, uses_max, expires_ms, at_ms, .. } => {
                self.invite(actor.as_str(), key, *uses_max, *expires_ms, *at_ms)
            }
            Write::RevokeInvite { actor, key, .. } => self.revoke(actor.as_str(), key),
            Write::Append { author, cmid, content, at_ms, .. } => {
                self.append(author.as_str(), cmid.as_str(), content, *at_ms)
            }
            Write::Mark { user, delivered_seq, read_seq, .. } => self.mark(user.as_str(), *delivered_seq, *read_seq),
            Write::Expire { up_to, .. } => {
                if *up_to > self.head() {
                    return Err(vec![Why::NotFound]);
                }
                self.expired = self.expired.max(*up_to);
                Ok(Expected::Done)
            }
            Write::Audit { .. } | Write::Once { .. } => {
                unreachable!("clients have neither reviews nor idempotency keys")
            }
        }
    }

    pub(super) fn role(&self, user: &str) -> Option<Role> {
        self.people.get(user).and_then(|person| person.role)
    }

    /// What was said before somebody came counts as read.
    pub(super) fn enter(&mut self, user: &str, role: Role) {
        let head = self.head();
        let person = self.people.entry(user.to_owned()).or_default();
        (person.role, person.delivered, person.read) = (Some(role), head, head);
    }

    fn exit(&mut self, user: &str) {
        if let Some(person) = self.people.get_mut(user) {
            (person.role, person.invited_until) = (None, None);
        }
    }

    fn join(&mut self, user: &str, code: Option<&str>, entitlements: &[String], at_ms: u64) -> Decided {
        let person = self.people.get(user).cloned().unwrap_or_default();
        if person.role.is_some() {
            return Ok(Expected::Done);
        }
        let hidden = matches!(self.kind, RoomKind::Private | RoomKind::Direct);
        if person.banned_until > at_ms {
            return Err(vec![if hidden { Why::NotFound } else { Why::Banned }]);
        }
        let open = match self.kind {
            RoomKind::Public | RoomKind::Unspecified => true,
            RoomKind::Premium => entitlements.contains(&self.settings.entitlement),
            RoomKind::Private | RoomKind::Direct => false,
        };
        if !open {
            self.spend(user, &person, code, at_ms).map_err(|why| match why {
                Some(why) => vec![why],
                None if hidden => vec![Why::NotFound],
                None => vec![Why::Forbidden],
            })?;
        }
        let role = match self.settings.default_role() {
            Role::Guest => Role::Guest,
            Role::Unspecified | Role::Member | Role::Moderator | Role::Admin | Role::Owner => Role::Member,
        };
        self.enter(user, role);
        Ok(Expected::Done)
    }

    /// Uses an invitation. `Err(None)`: there is none.
    fn spend(&mut self, user: &str, person: &Person, code: Option<&str>, at_ms: u64) -> Result<(), Option<Why>> {
        if person.invited_until.is_some_and(|until| until > at_ms) {
            self.people.entry(user.to_owned()).or_default().invited_until = None;
            return Ok(());
        }
        let code = code.and_then(|code| self.codes.get_mut(code)).ok_or(None)?;
        if code.expires_ms <= at_ms || (code.uses_max != 0 && code.uses >= code.uses_max) {
            return Err(Some(Why::NotFound));
        }
        code.uses += 1;
        Ok(())
    }

    fn leave(&mut self, user: &str) -> Decided {
        let role = self.role(user).ok_or(vec![Why::NotFound])?;
        let alone = self.people.values().filter(|person| person.role.is_some()).count() == 1;
        if self.kind == RoomKind::Direct || (role == Role::Owner && !alone) {
            return Err(vec![Why::Forbidden]);
        }
        self.exit(user);
        Ok(Expected::Done)
    }

    /// A member that may do this.
    fn actor(&self, user: &str, action: Action) -> Result<Role, Vec<Why>> {
        let role = self.role(user).ok_or(vec![Why::NotFound])?;
        if !self.allows(role, action) || self.kind == RoomKind::Direct {
            return Err(vec![Why::Forbidden]);
        }
        Ok(role)
    }

    fn set_role(&mut self, actor: &str, user: &str, role: Role, at_ms: u64) -> Decided {
        let own = self.actor(actor, Action::Manage)?;
        let current = self.role(user).ok_or(vec![Why::NotFound])?;
        let hands_over = own == Role::Owner && role == Role::Owner;
        if current >= own || (role >= own && !hands_over) {
            return Err(vec![Why::Forbidden]);
        }
        self.people.entry(user.to_owned()).or_default().role = Some(role);
        if hands_over {
            self.people.entry(actor.to_owned()).or_default().role = Some(Role::Admin);
        }
        let (kind, user) = (SystemKind::RoleChanged.into(), user.to_owned());
        self.note(actor, SystemNote { kind, user, role: role.into(), ..SystemNote::default() }, at_ms);
        Ok(Expected::Done)
    }

    fn moderate(&mut self, actor: &str, user: &str, sanction: Sanction, seconds: u64, at_ms: u64) -> Decided {
        let own = self.actor(actor, Action::Moderate)?;
        if actor == user || self.role(user).is_some_and(|role| role >= own) {
            return Err(vec![Why::Forbidden]);
        }
        let until = if seconds == 0 { FOREVER } else { at_ms + seconds * 1_000 };
        let mut person = self.people.get(user).cloned().unwrap_or_default();
        let (kind, told) = match sanction {
            Sanction::Mute if person.role.is_some() => {
                person.muted_until = until;
                (SystemKind::Muted, until)
            }
            Sanction::Kick if person.role.is_some() => {
                person.banned_until = if seconds == 0 { 0 } else { until };
                (SystemKind::Kicked, person.banned_until)
            }
            Sanction::Ban => {
                person.banned_until = until;
                (SystemKind::Banned, until)
            }
            Sanction::Unmute if person.muted_until > at_ms => {
                person.muted_until = 0;
                (SystemKind::Unmuted, 0)
            }
            Sanction::Unban if person.banned_until > at_ms => {
                person.banned_until = 0;
                (SystemKind::Unbanned, 0)
            }
            Sanction::Mute | Sanction::Kick | Sanction::Unmute | Sanction::Unban => return Err(vec![Why::NotFound]),
            Sanction::Unspecified => return Err(vec![Why::Invalid]),
        };
        self.people.insert(user.to_owned(), person);
        if matches!(sanction, Sanction::Kick | Sanction::Ban) {
            self.exit(user);
        }
        let note = SystemNote { kind: kind.into(), user: user.to_owned(), until_ms: told, ..SystemNote::default() };
        self.note(actor, note, at_ms);
        Ok(Expected::Done)
    }

    fn update(&mut self, actor: &str, update: &RoomUpdate, at_ms: u64) -> Decided {
        self.actor(actor, Action::Manage)?;
        let kind = update.kind.filter(|kind| *kind != RoomKind::Unspecified).unwrap_or(self.kind);
        let settings = update.settings.as_ref().map_or_else(|| self.settings.clone(), |settings| settings.to_wire());
        if kind == RoomKind::Direct || (kind == RoomKind::Premium && settings.entitlement.is_empty()) {
            return Err(vec![Why::Invalid]);
        }
        let mut notes: Vec<(SystemKind, &str)> = Vec::new();
        if let Some(title) = update.title.as_deref().filter(|title| *title != self.title) {
            notes.push((SystemKind::TitleChanged, title));
        }
        if let Some(topic) = update.topic.as_deref().filter(|topic| *topic != self.topic) {
            notes.push((SystemKind::TopicChanged, topic));
        }
        if kind != self.kind || settings != self.settings {
            notes.push((SystemKind::SettingsChanged, ""));
        }
        if let Some(archived) = update.archived.filter(|archived| *archived != self.archived) {
            notes.push((if archived { SystemKind::Archived } else { SystemKind::Unarchived }, ""));
        }
        for (kind, text) in notes {
            self.note(actor, SystemNote { kind: kind.into(), text: text.to_owned(), ..SystemNote::default() }, at_ms);
        }
        self.title = update.title.clone().unwrap_or_else(|| self.title.clone());
        self.topic = update.topic.clone().unwrap_or_else(|| self.topic.clone());
        (self.kind, self.settings) = (kind, settings);
        self.archived = update.archived.unwrap_or(self.archived);
        Ok(Expected::Done)
    }

    fn invite(&mut self, actor: &str, key: &InviteKey, uses_max: u32, expires_ms: u64, at_ms: u64) -> Decided {
        self.actor(actor, Action::Invite)?;
        match key {
            InviteKey::Code(code) => {
                let creator = actor.to_owned();
                self.codes.insert(code.clone(), Code { uses_max, uses: 0, expires_ms, creator });
            }
            InviteKey::User(_, user) => {
                let person = self.people.get(user.as_str()).cloned().unwrap_or_default();
                if person.role.is_some() {
                    return Err(vec![Why::Invalid]);
                }
                if person.banned_until > at_ms {
                    return Err(vec![Why::Forbidden]);
                }
                self.people.entry(user.as_str().to_owned()).or_default().invited_until = Some(expires_ms);
            }
        }
        Ok(Expected::Done)
    }

    /// One's own, or anybody's for whoever may moderate. Only codes are taken back here.
    fn revoke(&mut self, actor: &str, key: &InviteKey) -> Decided {
        let role = self.role(actor).ok_or(vec![Why::NotFound])?;
        let InviteKey::Code(code) = key else { return Err(vec![Why::NotFound]) };
        let creator = self.codes.get(code).map(|code| code.creator.clone()).ok_or(vec![Why::NotFound])?;
        if creator != actor && !self.allows(role, Action::Moderate) {
            return Err(vec![Why::Forbidden]);
        }
        self.codes.remove(code);
        Ok(Expected::Done)
    }

    /// Watermarks rise, to the head at most, and what is read was delivered.
    fn mark(&mut self, user: &str, delivered: u64, read: u64) -> Decided {
        self.role(user).ok_or(vec![Why::NotFound])?;
        let head = self.head();
        let person = self.people.entry(user.to_owned()).or_default();
        person.read = person.read.max(read.min(head));
        person.delivered = person.delivered.max(delivered.min(head)).max(person.read);
        Ok(Expected::Done)
    }
}
