use std::path::PathBuf;

use super::reader::Reader;
use super::{Environment, Gateway, Secret, Services, TlsFiles};

/// A service's token, bytes: nobody guesses 32.
const TOKEN_BYTES_MIN: usize = 32;
const TOKEN_BYTES_MAX: usize = 4096;

impl Reader<'_> {
    pub(super) fn gateway(&mut self, environment: Option<Environment>) -> Option<Gateway> {
        let host = self.address("GRPC_HOST");
        let port = self.number("GRPC_PORT");
        let tls = self.gateway_tls(environment);
        let services = self.gateway_services();
        let reflection = self.flag_or("GRPC_REFLECTION", environment == Some(Environment::Development));
        let host = host?;
        let (tls, client_ca) = tls?;
        if tls.is_none() && !host.is_loopback() && !matches!(services, Some(Services::Nobody) | None) {
            self.warnings.push(
                "GRPC_HOST: without GRPC_TLS_CERT_FILE service tokens cross the network readable for whoever listens"
                    .into(),
            );
        }
        Some(Gateway { host, port: port?, tls, client_ca, services: services?, reflection: reflection? })
    }

    fn gateway_tls(&mut self, environment: Option<Environment>) -> Option<(Option<TlsFiles>, Option<PathBuf>)> {
        let cert = self.path("GRPC_TLS_CERT_FILE");
        let key = self.path("GRPC_TLS_KEY_FILE");
        let client_ca = self.path("GRPC_TLS_CLIENT_CA_FILE");
        let readable = [
            self.file_is_readable("GRPC_TLS_CERT_FILE"),
            self.key_is_safe("GRPC_TLS_KEY_FILE", environment),
            self.file_is_readable("GRPC_TLS_CLIENT_CA_FILE"),
        ];
        match (cert, key) {
            (Some(cert), Some(key)) => (readable == [true; 3]).then_some((Some(TlsFiles { cert, key }), client_ca)),
            (None, None) if client_ca.is_some() => {
                let why = "client certificates need the server's: set GRPC_TLS_CERT_FILE and GRPC_TLS_KEY_FILE";
                self.problem("GRPC_TLS_CLIENT_CA_FILE", None, why);
                None
            }
            (None, None) => Some((None, None)),
            (Some(_), None) => {
                self.problem("GRPC_TLS_KEY_FILE", None, "the certificate of GRPC_TLS_CERT_FILE needs its private key");
                None
            }
            (None, Some(_)) => {
                self.problem("GRPC_TLS_CERT_FILE", None, "the key of GRPC_TLS_KEY_FILE needs its certificate");
                None
            }
        }
    }

    fn gateway_services(&mut self) -> Option<Services> {
        const TOKEN: &str = "GRPC_TOKEN";
        let file = self.path("GRPC_SERVICES_FILE");
        let readable = self.file_is_readable("GRPC_SERVICES_FILE");
        let token = self.source.get(TOKEN).map(str::to_owned);
        self.show(TOKEN, if token.is_some() { "***".into() } else { "(none)".into() });
        match (file, token) {
            (Some(_), Some(_)) => {
                self.problem(TOKEN, None, "GRPC_SERVICES_FILE is set too; one of them is enough");
                None
            }
            (Some(file), None) => readable.then_some(Services::File(file)),
            (None, Some(token)) => {
                let bytes = token.len();
                if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&bytes) || !token.bytes().all(|b| b.is_ascii_graphic())
                {
                    let why =
                        format!("{TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} visible ASCII characters, this has {bytes}");
                    self.problem(TOKEN, None, why);
                    return None;
                }
                Some(Services::Token(Secret::new(token)))
            }
            (None, None) => Some(Services::Nobody),
        }
    }
}
