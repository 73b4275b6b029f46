use std::collections::BTreeSet;

use futures_util::FutureExt;
use veza_proto::{DeviceId, UserId};

use super::{DEVICES_PER_USER_MAX, DeviceRow, Records, Revocation, Sighting, Subject};
use crate::store::outbox::Told;
use crate::store::sql::{Cell, Database, Row, counted, damaged, tell, within};
use crate::store::{Answered, StoreError};

/// The number is the next one, or the database says that another node has taken it meanwhile: so whoever sees a number has
/// seen those before it.
const REVOKE: &str = "INSERT INTO revocations (number, kind, account, name, revoked_ms, drop_at_ms) \
    SELECT coalesce(max(r.number), 0) + 1, CAST($1 AS bigint), CAST($2 AS text), CAST($3 AS text), CAST($4 AS bigint), \
    CAST($5 AS bigint) FROM revocations AS r WHERE true \
    ON CONFLICT (kind, account, name) DO UPDATE SET number = excluded.number, \
    revoked_ms = CASE WHEN excluded.revoked_ms > revocations.revoked_ms THEN excluded.revoked_ms \
    ELSE revocations.revoked_ms END, \
    drop_at_ms = CASE WHEN excluded.drop_at_ms > revocations.drop_at_ms THEN excluded.drop_at_ms \
    ELSE revocations.drop_at_ms END";
const REVOCATIONS: &str = "SELECT r.number, r.kind, r.account, r.name, r.revoked_ms, r.drop_at_ms FROM revocations AS r \
    WHERE r.number > $1 ORDER BY r.number LIMIT $2";
/// The last one stays, for its number must not be given again.
const FORGET: &str = "DELETE FROM revocations WHERE drop_at_ms <= $1 \
    AND number < (SELECT max(r.number) FROM revocations AS r)";
const SEE: &str = "INSERT INTO devices (account, device, client, first_seen_ms, last_seen_ms) \
    VALUES ($1, $2, $3, $4, $4) ON CONFLICT (account, device) DO UPDATE SET \
    client = CASE WHEN excluded.client = '' THEN devices.client ELSE excluded.client END, \
    last_seen_ms = CASE WHEN excluded.last_seen_ms > devices.last_seen_ms THEN excluded.last_seen_ms \
    ELSE devices.last_seen_ms END";
const FORGET_DEVICES: &str = "DELETE FROM devices WHERE account = $1 AND (last_seen_ms, device) <= \
    (SELECT d.last_seen_ms, d.device FROM devices AS d WHERE d.account = $1 \
    ORDER BY d.last_seen_ms DESC, d.device DESC LIMIT 1 OFFSET $2)";
const DEVICES: &str = "SELECT d.device, d.client, d.first_seen_ms, d.last_seen_ms FROM devices AS d \
    WHERE d.account = $1 AND d.device > $2 ORDER BY d.device LIMIT $3";

const TOKEN: i64 = 0;
const DEVICE: i64 = 1;
const USER: i64 = 2;

impl<D: Database> Records for D {
    fn revoke<'a>(&'a self, revocation: &'a Revocation, told: &'a Told) -> Answered<'a, ()> {
        let (kind, account, name) = match &revocation.subject {
            Subject::Token(id) => (TOKEN, "", id.as_str()),
            Subject::Device(user, device) => (DEVICE, user.as_str(), device.as_str()),
            Subject::User(user) => (USER, user.as_str(), ""),
        };
        let values =
            vec![kind.into(), account.into(), name.into(), revocation.revoked_ms.into(), revocation.drop_at_ms.into()];
        let statements = [(REVOKE, values)].into_iter().chain(tell::<D>(std::slice::from_ref(told))).collect();
        within(self.timeout(), self.change(statements)).boxed()
    }

    fn revocations<'a>(&'a self, after: u64, limit: u32) -> Answered<'a, Vec<(u64, Revocation)>> {
        counted("revocations", self.timeout(), async move {
            let rows = self.fetch(REVOCATIONS, &[after.into(), limit.into()]).await?;
            rows.iter().map(|row| Ok((row.natural("number")?, revocation(row)?))).collect()
        })
    }

    fn forget_revocations<'a>(&'a self, now_ms: u64) -> Answered<'a, ()> {
        within(self.timeout(), self.change(vec![(FORGET, vec![now_ms.into()])])).boxed()
    }

    fn see_devices<'a>(&'a self, seen: &'a [Sighting]) -> Answered<'a, ()> {
        let mut statements: Vec<(&'static str, Vec<Cell<'a>>)> = Vec::with_capacity(seen.len() * 2);
        // In the order of their keys, so that two nodes do not wait for each other in a circle.
        let mut seen: Vec<&Sighting> = seen.iter().collect();
        seen.sort_by(|a, b| (&a.user, &a.device, a.at_ms).cmp(&(&b.user, &b.device, b.at_ms)));
        for Sighting { user, device, client, at_ms } in &seen {
            let values = vec![user.as_str().into(), device.as_str().into(), client.as_str().into(), (*at_ms).into()];
            statements.push((SEE, values));
        }
        for user in seen.iter().map(|sighting| &sighting.user).collect::<BTreeSet<_>>() {
            statements.push((FORGET_DEVICES, vec![user.as_str().into(), DEVICES_PER_USER_MAX.into()]));
        }
        within(self.timeout(), self.change(statements)).boxed()
    }

    fn devices<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a DeviceId>,
        limit: u32,
    ) -> Answered<'a, Vec<DeviceRow>> {
        counted("devices", self.timeout(), async move {
            let after = after.map_or("", DeviceId::as_str);
            let rows = self.fetch(DEVICES, &[user.as_str().into(), after.into(), limit.into()]).await?;
            rows.iter().map(device).collect()
        })
    }
}

fn revocation(row: &impl Row) -> Result<Revocation, StoreError> {
    let subject = match row.integer("kind")? {
        TOKEN => Subject::Token(row.text("name")?),
        DEVICE => Subject::Device(row.user("account")?, device_id(row, "name")?),
        USER => Subject::User(row.user("account")?),
        other => return Err(damaged(format!("a revocation of kind {other}"))),
    };
    Ok(Revocation { subject, revoked_ms: row.natural("revoked_ms")?, drop_at_ms: row.natural("drop_at_ms")? })
}

fn device(row: &impl Row) -> Result<DeviceRow, StoreError> {
    Ok(DeviceRow {
        device: device_id(row, "device")?,
        client: row.text("client")?,
        first_seen_ms: row.natural("first_seen_ms")?,
        last_seen_ms: row.natural("last_seen_ms")?,
    })
}

fn device_id(row: &impl Row, column: &str) -> Result<DeviceId, StoreError> {
    DeviceId::parse(&row.text(column)?).map_err(damaged)
}
