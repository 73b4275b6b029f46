//! The platform's backend as these stories need it.

use veza::rpc::auth_client::AuthClient;
use veza::rpc::devices_client::DevicesClient;
use veza_client::proto::gateway::v1::MintConnectTokenRequest;

use crate::gateway::{self, Shown};
use crate::server::{Process, Start};

/// The services about tokens and devices.
pub struct Backend {
    pub auth: AuthClient<Shown>,
    pub devices: DevicesClient<Shown>,
}

impl Backend {
    /// A start whose users may talk as fast as these stories do.
    pub fn start() -> Start {
        Start::new().talkative()
    }

    pub async fn of(process: &Process) -> Self {
        let backend = gateway::Backend::of(process).await;
        Self { auth: backend.auth(), devices: backend.devices() }
    }

    /// A token for a client of a user: itself and its id.
    pub async fn mint(&mut self, user: &str, device: &str) -> (String, String) {
        let (user, device) = (user.into(), device.into());
        let asked = MintConnectTokenRequest { user, device, ..MintConnectTokenRequest::default() };
        let minted = self.auth.mint_connect_token(asked).await.unwrap().into_inner();
        (minted.token, minted.token_id)
    }
}
