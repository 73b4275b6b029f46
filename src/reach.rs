//! Where a server is that a terminal client talks to, and as whom.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use veza_client::{EndpointOptions, Endpoints, Preference, Server, ServerError, Target, TokenSource, Transport, Trust};

/// The variable that holds a token; an argument would show it to every process of the machine.
const TOKEN_VARIABLE: &str = "VEZA_TOKEN";

/// The arguments that say it.
#[derive(Debug, Clone, Args)]
pub struct Reach {
    /// The name to log in with at a development server; the name of this account when left out.
    #[arg(long)]
    pub user: Option<String>,
    /// The server's HTTP address.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// What carries the session; `auto` races WebTransport against WebSocket.
    #[arg(long, value_enum, default_value_t = Carrier::Auto)]
    pub transport: Carrier,
    /// A file that holds the token.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM of the authority that signed the server's certificate; a development server needs none.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// The transports by their names on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    Auto,
    Wt,
    Quic,
    Ws,
}

/// A server that was found, and what a session needs there.
pub struct Reached {
    pub endpoints: Endpoints,
    pub target: Target,
    pub token: TokenSource,
    pub preference: Preference,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("{path} cannot be read: {why}")]
    File { path: PathBuf, why: std::io::Error },
    #[error("no token in {TOKEN_VARIABLE} or --token-file, and the server has no development login")]
    NoToken,
}

impl Reach {
    /// Asks the server what it is.
    ///
    /// # Errors
    /// See [`ReachError`].
    pub async fn open(&self) -> Result<Reached, ReachError> {
        let server = Server::discover(&self.url).await?;
        let trust = match &self.ca {
            Some(path) => Trust::Authorities(read(path)?),
            None => server.trust()?,
        };
        let endpoints = Endpoints::new(&EndpointOptions::new(trust)).map_err(ServerError::from)?;
        let (target, token, preference) = (server.target(), self.token(&server)?, self.transport.preference());
        Ok(Reached { endpoints, target, token, preference })
    }

    fn token(&self, server: &Server) -> Result<TokenSource, ReachError> {
        if let Some(path) = &self.token_file {
            read(path)?;
            let path = path.clone();
            // Again each time: somebody may have put a fresh one there.
            return Ok(TokenSource::new(move || {
                let token = read(&path).map_err(|error| error.to_string());
                std::future::ready(token.map(|token| String::from_utf8_lossy(&token).trim().to_owned()))
            }));
        }
        match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.is_empty() => Ok(TokenSource::fixed(token)),
            Ok(_) | Err(_) if server.is_development() => {
                let account = || std::env::var("USER").ok().filter(|name| !name.is_empty());
                let user = self.user.clone().or_else(account).unwrap_or_else(|| "guest".into());
                let server = server.clone();
                Ok(TokenSource::new(move || {
                    let (server, user) = (server.clone(), user.clone());
                    async move { server.dev_login(&user).await.map_err(|error| error.to_string()) }
                }))
            }
            Ok(_) | Err(_) => Err(ReachError::NoToken),
        }
    }
}

impl Carrier {
    fn preference(self) -> Preference {
        match self {
            Carrier::Auto => Preference::Auto,
            Carrier::Wt => Preference::Only(Transport::WebTransport),
            Carrier::Quic => Preference::Only(Transport::Quic),
            Carrier::Ws => Preference::Only(Transport::WebSocket),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ReachError> {
    std::fs::read(path).map_err(|why| ReachError::File { path: path.to_owned(), why })
}
