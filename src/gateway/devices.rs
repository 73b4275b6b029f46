//! The devices that users come from. Keys of theirs come with end-to-end encryption, which is not here yet.

use tonic::{Code, Request, Response, Status};
use veza_proto::gateway::v1::{
    Device, GetKeyPackageCountsRequest, GetKeyPackageCountsResponse, ListDevicesRequest, ListDevicesResponse, Reason,
    RevokeUserDeviceRequest, RevokeUserDeviceResponse,
};
use veza_proto::v1::{Error, ErrorCode};
use veza_proto::{DeviceId, UserId};

use super::caller::Caller;
use super::status::{because, refused};
use super::trust::{self, Trust};
use super::{fields, pages};
use crate::rpc::devices_server::Devices;
use crate::store::records::DeviceRow;

const LIST: &str = "devices";
const PAGE_DEFAULT: u32 = 50;
const PAGE_MAX: u32 = 100;

/// Serves `veza.gateway.v1.Devices`.
pub(super) struct DeviceCalls {
    pub(super) trust: Trust,
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Devices for DeviceCalls {
    async fn list_devices(&self, request: Request<ListDevicesRequest>) -> Answered<ListDevicesResponse> {
        let asked = request.into_inner();
        let user = fields::user("user", &asked.user)?;
        let after =
            pages::place(LIST, &asked.page_token)?.map(|place| trust::device("page_token", &place)).transpose()?;
        let size = pages::size(asked.page_size, PAGE_DEFAULT, PAGE_MAX) as usize;
        let rows = self.trust.devices_of(&user, after.as_ref()).await?;
        let mut devices: Vec<Device> = rows.iter().map(|row| self.shown(&user, row)).collect();
        devices.retain(|device| asked.include_revoked || device.revoked_ms == 0);
        let more = devices.len() > size;
        devices.truncate(size);
        let last = devices.last().filter(|_| more).map(|device| device.id.as_str()).unwrap_or_default();
        Ok(Response::new(ListDevicesResponse { next_page_token: pages::token(LIST, last), devices }))
    }

    async fn revoke_user_device(
        &self,
        request: Request<RevokeUserDeviceRequest>,
    ) -> Answered<RevokeUserDeviceResponse> {
        let (caller, asked) = Caller::take(request)?;
        trust::key(&asked.idempotency_key)?;
        trust::reason(&asked.reason)?;
        let user = fields::user("user", &asked.user)?;
        let device = trust::device("device", &asked.device)?;
        let row = self.seen(&user, &device).await?.ok_or_else(never_seen)?;
        self.trust.revoke_device(user.clone(), device, &caller.itself()).await?;
        Ok(Response::new(RevokeUserDeviceResponse { device: Some(self.shown(&user, &row)) }))
    }

    async fn get_key_package_counts(
        &self,
        request: Request<GetKeyPackageCountsRequest>,
    ) -> Answered<GetKeyPackageCountsResponse> {
        fields::user("user", &request.into_inner().user)?;
        let sentence = "this server has no end-to-end encryption, so devices have no key packages";
        Err(because(Code::Unimplemented, Reason::EncryptionMissing, sentence))
    }
}

fn never_seen() -> Status {
    refused(&Error::permanent(ErrorCode::NotFound, "this device was never seen"))
}

impl DeviceCalls {
    async fn seen(&self, user: &UserId, device: &DeviceId) -> Result<Option<DeviceRow>, Status> {
        Ok(self.trust.devices_of(user, None).await?.into_iter().find(|row| row.device == *device))
    }

    fn shown(&self, user: &UserId, row: &DeviceRow) -> Device {
        let seats = self.trust.registry.of_user(user);
        Device {
            user: String::from(user),
            id: String::from(&row.device),
            first_seen_ms: row.first_seen_ms,
            last_seen_ms: row.last_seen_ms,
            client: row.client.clone(),
            revoked_ms: self.trust.revoked_ms(user, row),
            connected: seats.iter().any(|seat| seat.holder.identity.device.as_ref() == Some(&row.device)),
        }
    }
}
