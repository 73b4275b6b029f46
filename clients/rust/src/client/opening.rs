//! One attempt to get a link with the hello answered.

use veza_proto::v1::{self, ErrorCode, Hello, RoomCursor};

use super::Config;
use crate::connection::{Connection, Pushes};
use crate::error::Error;
use crate::race::Memory;

pub(super) struct Opening {
    pub(super) config: Config,
    pub(super) resume_token: String,
    pub(super) rooms: Vec<RoomCursor>,
    /// The token that the last hello was refused for.
    pub(super) refused_token: Option<String>,
    pub(super) memory: Memory,
}

pub(super) struct Opened {
    pub(super) link: Result<(Connection, Pushes), Error>,
    /// The token that was used, for telling whether the next is another.
    pub(super) token: String,
    pub(super) memory: Memory,
}

impl Opening {
    pub(super) async fn open(mut self) -> Opened {
        let (token, link) = match self.config.token.get().await {
            // To say the same again would only count as another failed login.
            Ok(token) if self.refused_token.as_ref() == Some(&token) => {
                let error =
                    v1::Error::permanent(ErrorCode::Unauthenticated, "the token was refused and there is no other");
                (token, Err(Error::Refused(error)))
            }
            Ok(token) => {
                let link = self.connect(token.clone()).await;
                (token, link)
            }
            Err(error) => (String::new(), Err(error)),
        };
        Opened { link, token, memory: self.memory }
    }

    async fn connect(&mut self, token: String) -> Result<(Connection, Pushes), Error> {
        let Config { endpoints, target, client, options, .. } = &self.config;
        let (resume_token, rooms) = (std::mem::take(&mut self.resume_token), std::mem::take(&mut self.rooms));
        let hello = Hello { token, client: client.clone(), resume_token, rooms };
        Connection::open_remembering(endpoints, target, hello, options, &mut self.memory).await
    }
}
