//! Plain QUIC, ALPN `veza/1`.

use super::streams::{Carrier, StreamLink};
use crate::Endpoints;
use crate::target::Authority;

pub(crate) async fn connect(endpoints: &Endpoints, address: &str) -> Result<StreamLink, String> {
    let authority = Authority::of(address, 443)?;
    let remote = authority.resolve().await?;
    let endpoint = endpoints.quic(remote).map_err(|error| format!("no UDP socket: {error}"))?;
    let connection = endpoint.connect(remote, &authority.host).map_err(|error| error.to_string())?;
    let connection = connection.await.map_err(|error| error.to_string())?;
    StreamLink::open(Carrier::Quic(connection)).await
}
