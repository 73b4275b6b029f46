//! Users to test with: tokens of the development login, or of a command.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::task::JoinSet;
use veza_client::{Server, ServerError};

use crate::Failure;

/// Logins at once.
const AT_ONCE: usize = 8;
/// A server that limits logins is asked again this often, this far apart.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(500);
const COMMAND_WITHIN: Duration = Duration::from_secs(10);

/// One token per user `PREFIX-0 … PREFIX-(count - 1)`, in that order.
pub(crate) async fn fetch(
    server: &Server,
    command: Option<&str>,
    prefix: &str,
    count: usize,
) -> Result<Vec<String>, Failure> {
    let mut tokens = vec![String::new(); count];
    let mut asking = JoinSet::new();
    let mut next = 0;
    while next < count || !asking.is_empty() {
        while next < count && asking.len() < AT_ONCE {
            let (server, command, user) = (server.clone(), command.map(str::to_owned), format!("{prefix}-{next}"));
            let at = next;
            asking.spawn(async move {
                let token = match command {
                    Some(command) => by_command(&command, &user).await,
                    None => by_login(&server, &user).await,
                };
                (at, token)
            });
            next += 1;
        }
        if let Some(answered) = asking.join_next().await {
            let (at, token) = answered.map_err(|error| Failure::setup(format!("a login failed: {error}")))?;
            tokens[at] = token?;
        }
    }
    Ok(tokens)
}

async fn by_login(server: &Server, user: &str) -> Result<String, Failure> {
    for _ in 1..TRIES {
        match server.dev_login(user).await {
            Err(ServerError::Status { status: 429 | 503, .. }) => tokio::time::sleep(TRY_AGAIN).await,
            Err(ServerError::Status { status: 404, .. }) => {
                return Err(Failure::setup("the server has no development login: give --token-command"));
            }
            answer => return Ok(answer?),
        }
    }
    Ok(server.dev_login(user).await?)
}

/// Runs `sh -c COMMAND` with the user in `VEZA_USER`; the token is what it prints.
async fn by_command(command: &str, user: &str) -> Result<String, Failure> {
    let running = Command::new("sh")
        .args(["-c", command])
        .env("VEZA_USER", user)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(COMMAND_WITHIN, running)
        .await
        .map_err(|_| Failure::setup("the token command takes longer than ten seconds"))?
        .map_err(Failure::io("the token command"))?;
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || token.is_empty() {
        return Err(Failure::setup(format!("the token command gave no token for {user}")));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_gives_each_user_its_token() {
        assert_eq!(by_command("echo token-of-$VEZA_USER", "load-7").await.unwrap(), "token-of-load-7");
        assert!(by_command("exit 1", "load-7").await.is_err());
        assert!(by_command("true", "load-7").await.is_err());
    }
}
