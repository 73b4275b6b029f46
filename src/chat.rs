//! `veza chat`: a terminal client, one line a message. Plain text in, plain text out, so that it also works in a pipe.

use std::collections::VecDeque;
use std::io::{BufRead, IsTerminal, Write};
use std::pin::Pin;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use veza_client::proto::v1::{JoinRoom, Message};
use veza_client::{Client, Config, Error, Event, Events, State};

mod line;
mod member;
mod message;
mod room;
mod screen;

use crate::reach::{Reach, ReachError, Reached};
use line::{HELP, Line};
use screen::Screen;

/// Lines that are read before earlier ones are answered.
const LINES_MAX: usize = 256;

/// Chat in the terminal. The token comes from VEZA_TOKEN or a file; without one the development login gives it.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// The room to enter; it is created if there is none.
    #[arg(long, default_value = "lobby")]
    pub room: String,
    #[command(flatten)]
    pub reach: Reach,
}

/// Why the chat ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error("the server ended the session: {0}")]
    Closed(String),
    #[error("the terminal is gone: {0}")]
    Terminal(#[from] std::io::Error),
}

/// Runs until `/quit`, the end of the input, or until the server will not have us back.
///
/// # Errors
/// See [`ChatError`].
pub async fn run(args: ChatArgs) -> Result<(), ChatError> {
    let Reached { endpoints, target, token, preference } = args.reach.open().await?;
    let mut config = Config::new(endpoints, target, token);
    config.client = concat!("veza-chat/", env!("CARGO_PKG_VERSION")).into();
    config.options.preference = preference;

    let (client, events) = Client::start(config);
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let chat = Chat {
        client,
        room: args.room,
        screen: Screen { colour },
        asked: FuturesUnordered::new(),
        entering: false,
        early: VecDeque::new(),
        shown: 0,
        ended: None,
    };
    chat.run(events, lines()).await
}

/// Lines of the standard input, on a thread of their own: a read that waits for Enter must not hold up the end.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// What a question to the server came to.
struct Answer {
    lines: Vec<String>,
    entry: Entry,
}

/// Whether the question was for a room.
enum Entry {
    NotAsked,
    Opened(String),
    Refused,
}

type Asked = Pin<Box<dyn Future<Output = Answer> + Send>>;

struct Chat {
    client: Client,
    /// Where plain lines go.
    room: String,
    screen: Screen,
    asked: FuturesUnordered<Asked>,
    /// A room is being entered, and these lines are meant for it.
    entering: bool,
    early: VecDeque<Line>,
    /// The last message of the room that was shown as it came.
    shown: u64,
    ended: Option<String>,
}

impl Chat {
    async fn run(mut self, mut events: Events, mut lines: mpsc::Receiver<String>) -> Result<(), ChatError> {
        self.enter(JoinRoom { room: self.room.clone(), ..JoinRoom::default() });
        let mut input = true;
        while self.ended.is_none() && (input || !self.asked.is_empty()) {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.show(event)?,
                    None => break,
                },
                Some(answer) = self.asked.next() => {
                    self.print(&answer.lines)?;
                    self.entered(answer.entry)?;
                }
                line = lines.recv(), if input && self.early.len() + self.asked.len() < LINES_MAX => match line.as_deref().map(Line::read) {
                    Some(Line::Quit) => break,
                    // A pipe's end: what was asked is still waited for.
                    None => input = false,
                    Some(line) => self.take(line)?,
                },
            }
        }
        match self.ended {
            Some(reason) => Err(ChatError::Closed(reason)),
            None => {
                self.client.close().await;
                Ok(())
            }
        }
    }

    fn take(&mut self, line: Line) -> Result<(), ChatError> {
        let (client, room, screen) = (self.client.clone(), self.room.clone(), self.screen);
        match line {
            Line::Nothing | Line::Quit => {}
            Line::Help => {
                let lines: Vec<_> = HELP.iter().map(|(usage, does)| screen.note(&format!("{usage}  {does}"))).collect();
                self.print(&lines)?;
            }
            Line::Usage(usage) => self.print(&[screen.note(usage)])?,
            Line::Unknown(word) => self.print(&[screen.note(&format!("no such command: {word}; /help tells them"))])?,
            Line::Join { room, invite } => self.enter(JoinRoom { room, invite, ..JoinRoom::default() }),
            Line::Direct(user) => self.enter_direct(user),
            Line::Say(_) | Line::Message(_) | Line::Room(_) | Line::Member(_) if self.entering => {
                self.early.push_back(line);
            }
            Line::Say(body) => self.ask(async move { client.publish(&room, body).await.map(|_stored| Vec::new()) }),
            Line::Message(ask) => {
                let shown = self.shown;
                self.ask(async move {
                    if matches!(ask, message::Ask::Unread) && shown > 0 {
                        client.mark(&room, shown, shown).await?;
                    }
                    ask.put(&client, screen, &room).await
                });
            }
            Line::Room(ask) => self.ask(async move { ask.put(&client, screen, &room).await }),
            Line::Member(ask) => self.ask(async move { ask.put(&client, screen, &room).await }),
        }
        Ok(())
    }

    fn entered(&mut self, entry: Entry) -> Result<(), ChatError> {
        match entry {
            Entry::NotAsked => return Ok(()),
            Entry::Opened(room) => (self.room, self.shown) = (room, 0),
            Entry::Refused => {}
        }
        self.entering = false;
        for line in std::mem::take(&mut self.early) {
            self.take(line)?;
        }
        Ok(())
    }

    fn ask(&mut self, question: impl Future<Output = Result<Vec<String>, Error>> + Send + 'static) {
        let screen = self.screen;
        self.asked.push(Box::pin(async move {
            let lines = question.await.unwrap_or_else(|error| vec![screen.warning(&error.to_string())]);
            Answer { lines, entry: Entry::NotAsked }
        }));
    }

    /// Joins a room, made if there is none, and shows its last messages.
    fn enter(&mut self, join: JoinRoom) {
        self.enter_by(std::future::ready(Ok(join)));
    }

    /// Enters the room of two, made if there is none.
    fn enter_direct(&mut self, user: String) {
        let client = self.client.clone();
        self.enter_by(async move {
            let room = client.open_direct(&user).await?;
            Ok(JoinRoom { room: room.id, ..JoinRoom::default() })
        });
    }

    fn enter_by(&mut self, join: impl Future<Output = Result<JoinRoom, Error>> + Send + 'static) {
        let (client, screen) = (self.client.clone(), self.screen);
        self.entering = true;
        self.asked.push(Box::pin(async move {
            let entered = async {
                let join = join.await?;
                let lines = room::enter(&client, screen, &join).await?;
                Ok::<_, Error>((lines, join.room))
            };
            match entered.await {
                Ok((lines, id)) => Answer { lines, entry: Entry::Opened(id) },
                Err(error) => Answer { lines: vec![screen.warning(&error.to_string())], entry: Entry::Refused },
            }
        }));
    }

    fn show(&mut self, event: Event) -> Result<(), ChatError> {
        let screen = self.screen;
        let line = match event {
            Event::Message(message) => self.line(&message),
            Event::Gap(hole) => screen.note(&format!(
                "{}: messages {} to {} are missing here; /history may have them",
                hole.room, hole.from, hole.to
            )),
            Event::Left { room, error } => screen.warning(&format!("{room} is gone: {}", error.message)),
            Event::Evicted(evicted) => screen.evicted(&evicted),
            Event::Presence(presence) => match screen.presence(&presence) {
                Some(line) => line,
                None => return Ok(()),
            },
            // What changed in a room its log tells as well.
            Event::Typing(_) | Event::Receipts(_) | Event::RoomChanged(_) | Event::Resumed { .. } => return Ok(()),
            Event::State(State::Connecting) => return Ok(()),
            Event::State(State::Connected { transport, user, .. }) => {
                screen.note(&format!("connected as {user} by {}", transport.label()))
            }
            Event::State(State::Reconnecting { after, why }) => {
                screen.note(&format!("{why}; next attempt in {:.1} s", after.as_secs_f64()))
            }
            Event::State(State::Closed { reason, .. }) => {
                self.ended = Some(reason);
                return Ok(());
            }
        };
        self.print(&[line])
    }

    /// A message of another room says which.
    fn line(&mut self, message: &Message) -> String {
        let line = self.screen.message(message);
        if message.room == self.room {
            self.shown = message.seq;
            return line;
        }
        format!("{}: {line}", screen::plain(&message.room))
    }

    fn print(&self, lines: &[String]) -> Result<(), ChatError> {
        let mut out = std::io::stdout().lock();
        for line in lines {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Carrier;

    #[test]
    fn arguments_are_well_formed() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            chat: ChatArgs,
        }
        <Cli as clap::CommandFactory>::command().debug_assert();
        let cli = <Cli as clap::Parser>::try_parse_from(["chat", "--room", "two", "--transport", "wt"]).unwrap();
        assert_eq!((cli.chat.room.as_str(), cli.chat.reach.transport), ("two", Carrier::Wt));
    }
}
