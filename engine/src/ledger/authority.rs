//! Who may do what in a room: one table of roles and actions, the same for sessions, history, search and gateways.

use std::collections::BTreeMap;

use prost::Message as _;
use veza_proto::limits as wire;
use veza_proto::v1::{self, Action, Role, RoomKind};

/// What a room's managers set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub listed: bool,
    /// 0 is off.
    pub slow_mode_seconds: u32,
    /// 0 keeps everything.
    pub retention_seconds: u64,
    /// 0 keeps everything.
    pub retention_entries: u64,
    /// What somebody who joins becomes.
    pub default_role: Role,
    /// Where the room differs from the defaults.
    permissions: BTreeMap<Action, Role>,
    /// What a premium room's members hold.
    pub entitlement: String,
}

/// One of a room's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SettingsField {
    Listed,
    SlowModeSeconds,
    RetentionSeconds,
    RetentionEntries,
    DefaultRole,
    Permissions,
    Entitlement,
}

impl Settings {
    /// Takes over some of another's.
    pub fn take(&mut self, from: &Settings, fields: &[SettingsField]) {
        for field in fields {
            match field {
                SettingsField::Listed => self.listed = from.listed,
                SettingsField::SlowModeSeconds => self.slow_mode_seconds = from.slow_mode_seconds,
                SettingsField::RetentionSeconds => self.retention_seconds = from.retention_seconds,
                SettingsField::RetentionEntries => self.retention_entries = from.retention_entries,
                SettingsField::DefaultRole => self.default_role = from.default_role,
                SettingsField::Permissions => self.permissions.clone_from(&from.permissions),
                SettingsField::Entitlement => self.entitlement.clone_from(&from.entitlement),
            }
        }
    }

    /// The settings of a new room.
    pub fn of(kind: RoomKind) -> Self {
        Self {
            listed: matches!(kind, RoomKind::Public | RoomKind::Premium | RoomKind::Unspecified),
            slow_mode_seconds: 0,
            retention_seconds: 0,
            retention_entries: 0,
            default_role: Role::Member,
            permissions: BTreeMap::new(),
            entitlement: String::new(),
        }
    }

    /// Reads what a client or the store gives.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn parse(from: &v1::RoomSettings) -> Result<Self, String> {
        let slow_max = wire::SLOW_MODE_SECONDS_MAX;
        if from.slow_mode_seconds > slow_max {
            return Err(format!("slow_mode_seconds may be at most {slow_max}, this is {}", from.slow_mode_seconds));
        }
        let seconds = from.retention_seconds;
        if seconds != 0 && !(wire::RETENTION_SECONDS_MIN..=wire::RETENTION_SECONDS_MAX).contains(&seconds) {
            return Err(format!(
                "retention_seconds may be 0 or from {} to {}, this is {seconds}",
                wire::RETENTION_SECONDS_MIN,
                wire::RETENTION_SECONDS_MAX
            ));
        }
        if from.retention_entries != 0 && from.retention_entries < wire::RETENTION_ENTRIES_MIN {
            let min = wire::RETENTION_ENTRIES_MIN;
            return Err(format!("retention_entries may be 0 or at least {min}, this is {}", from.retention_entries));
        }
        let default_role = match from.default_role() {
            Role::Unspecified | Role::Member => Role::Member,
            Role::Guest => Role::Guest,
            Role::Moderator | Role::Admin | Role::Owner => {
                return Err("default_role may be ROLE_GUEST or ROLE_MEMBER".into());
            }
        };
        let max = wire::ENTITLEMENT_BYTES_MAX;
        if from.entitlement.len() > max || from.entitlement.chars().any(char::is_control) {
            return Err(format!("entitlement may have {max} bytes without control characters"));
        }
        let mut permissions = BTreeMap::new();
        for permission in &from.permissions {
            let (action, at_least) = (permission.action(), permission.at_least());
            if action == Action::Unspecified || at_least == Role::Unspecified {
                return Err("a permission names an action and a role".into());
            }
            if matches!(action, Action::Manage | Action::Moderate | Action::DeleteAny) && at_least < Role::Moderator {
                return Err("what only moderators may do by default is not given to lower roles".into());
            }
            permissions.insert(action, at_least);
        }
        Ok(Self {
            listed: from.listed,
            slow_mode_seconds: from.slow_mode_seconds,
            retention_seconds: seconds,
            retention_entries: from.retention_entries,
            default_role,
            permissions,
            entitlement: from.entitlement.clone(),
        })
    }

    pub fn to_wire(&self) -> v1::RoomSettings {
        let permissions = self
            .permissions
            .iter()
            .map(|(action, at_least)| v1::Permission { action: (*action).into(), at_least: (*at_least).into() });
        v1::RoomSettings {
            listed: self.listed,
            slow_mode_seconds: self.slow_mode_seconds,
            retention_seconds: self.retention_seconds,
            retention_entries: self.retention_entries,
            default_role: self.default_role.into(),
            permissions: permissions.collect(),
            entitlement: self.entitlement.clone(),
        }
    }

    /// As the store keeps them.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// What [`Settings::to_bytes`] wrote.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let wire = v1::RoomSettings::decode(bytes).map_err(|error| error.to_string())?;
        Self::parse(&wire)
    }

    /// The lowest role that may do this in a room of this kind.
    pub fn at_least(&self, action: Action, kind: RoomKind) -> Role {
        self.permissions.get(&action).copied().unwrap_or(match action {
            Action::React => Role::Guest,
            Action::Publish | Action::Attach | Action::Thread => Role::Member,
            Action::Invite if kind == RoomKind::Private => Role::Moderator,
            Action::Invite => Role::Member,
            // Two people are each other's equals, and nobody stands over them.
            Action::Pin if kind == RoomKind::Direct => Role::Member,
            Action::MentionAll | Action::Pin | Action::DeleteAny | Action::Moderate => Role::Moderator,
            Action::Manage => Role::Admin,
            Action::Unspecified => Role::Owner,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::RoomSettings {
        Settings::of(RoomKind::Public).to_wire()
    }

    #[test]
    fn settings_read_back_as_they_were() {
        let permissions = vec![v1::Permission { action: Action::Publish.into(), at_least: Role::Admin.into() }];
        let from = v1::RoomSettings { permissions, slow_mode_seconds: 30, entitlement: "gold".into(), ..wire() };
        let settings = Settings::parse(&from).unwrap();
        assert_eq!(settings.to_wire(), from);
        assert_eq!(Settings::from_bytes(&settings.to_bytes()).unwrap(), settings);
        assert!(Settings::from_bytes(&[0xff]).is_err());
        assert_eq!(settings.at_least(Action::Publish, RoomKind::Public), Role::Admin);
        assert_eq!(settings.at_least(Action::React, RoomKind::Public), Role::Guest);
    }

    #[test]
    fn every_bound_at_its_limit_and_one_past() {
        let slow = |seconds| Settings::parse(&v1::RoomSettings { slow_mode_seconds: seconds, ..wire() });
        assert!(slow(wire::SLOW_MODE_SECONDS_MAX).is_ok() && slow(wire::SLOW_MODE_SECONDS_MAX + 1).is_err());
        let keep = |seconds| Settings::parse(&v1::RoomSettings { retention_seconds: seconds, ..wire() });
        assert!(keep(0).is_ok() && keep(wire::RETENTION_SECONDS_MIN).is_ok());
        assert!(keep(wire::RETENTION_SECONDS_MIN - 1).is_err());
        assert!(keep(wire::RETENTION_SECONDS_MAX).is_ok() && keep(wire::RETENTION_SECONDS_MAX + 1).is_err());
        let count = |entries| Settings::parse(&v1::RoomSettings { retention_entries: entries, ..wire() });
        assert!(count(wire::RETENTION_ENTRIES_MIN).is_ok() && count(wire::RETENTION_ENTRIES_MIN - 1).is_err());
        let named = |len| Settings::parse(&v1::RoomSettings { entitlement: "g".repeat(len), ..wire() });
        assert!(named(wire::ENTITLEMENT_BYTES_MAX).is_ok() && named(wire::ENTITLEMENT_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn only_the_named_fields_are_taken_over() {
        let permissions = vec![v1::Permission { action: Action::Pin.into(), at_least: Role::Member.into() }];
        let other = Settings::parse(&v1::RoomSettings {
            listed: false,
            slow_mode_seconds: 30,
            retention_seconds: 3_600,
            retention_entries: 100,
            default_role: Role::Guest.into(),
            permissions,
            entitlement: "gold".into(),
        });
        let (mut mine, other) = (Settings::of(RoomKind::Public), other.unwrap());
        mine.take(&other, &[SettingsField::SlowModeSeconds, SettingsField::Permissions]);
        assert_eq!((mine.slow_mode_seconds, mine.at_least(Action::Pin, RoomKind::Public)), (30, Role::Member));
        let kept = Settings { slow_mode_seconds: 0, permissions: BTreeMap::new(), ..mine.clone() };
        assert_eq!(kept, Settings::of(RoomKind::Public));
        let all = [
            SettingsField::Listed,
            SettingsField::RetentionSeconds,
            SettingsField::RetentionEntries,
            SettingsField::DefaultRole,
            SettingsField::Entitlement,
        ];
        mine.take(&other, &all);
        assert_eq!(mine, other);
    }

    #[test]
    fn moderation_is_not_given_to_members() {
        let permissions = vec![v1::Permission { action: Action::Moderate.into(), at_least: Role::Member.into() }];
        assert!(Settings::parse(&v1::RoomSettings { permissions, ..wire() }).is_err());
    }
}
