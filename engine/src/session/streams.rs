//! Commands about streams: who publishes, who listens, and how well.

use bytes::Bytes;
use veza_proto::v1::{
    AudioProfile, AudioStream, CreateStream, EndStream, Error, ListStreams, Listen, PublishStream, QualityPin,
    ReceiverReport, SetPlaying, SetQuality, Unlisten,
};
use veza_proto::{RoomId, limits as wire};

use super::commands::page_size;
use super::{Note, Output, Phase, Session};
use crate::Timestamp;
use crate::ask::Ticket;
use crate::audio::{AudioAsk, Ladder};
use crate::check::{bad, line, text};
use crate::streams::{DESCRIPTION_BYTES_MAX, PLAYING_BYTES_MAX, check_new_id};

type Checked = Result<(), Error>;

impl Session {
    pub(super) fn list_streams(&mut self, ticket: &Ticket, list: &ListStreams) -> Checked {
        let limit = page_size(list.limit, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX)?;
        let after = match list.page_token.as_str() {
            "" => None,
            token => Some(read_place(token).ok_or_else(|| bad("page_token is none of an earlier answer"))?),
        };
        self.ask_audio(ticket.clone(), AudioAsk::List { after, limit });
        Ok(())
    }

    pub(super) fn create_stream(&mut self, ticket: &Ticket, create: CreateStream) -> Checked {
        check_new_id(&create.stream)?;
        line("title", &create.title, wire::ROOM_TITLE_BYTES_MAX)?;
        if create.title.is_empty() {
            return Err(bad("title must not be empty"));
        }
        text("description", &create.description, DESCRIPTION_BYTES_MAX)?;
        let profile = match create.profile() {
            AudioProfile::Unspecified | AudioProfile::Music => AudioProfile::Music,
            AudioProfile::Voice => AudioProfile::Voice,
        };
        let CreateStream { stream, title, description, .. } = create;
        self.ask_audio(ticket.clone(), AudioAsk::Create { stream, title, description, profile });
        Ok(())
    }

    pub(super) fn publish_stream(&mut self, ticket: &Ticket, publish: PublishStream) -> Checked {
        let ask = AudioAsk::Publish { stream: stream(&publish.stream)?, ladder: Ladder::parse(publish.rungs)? };
        self.ask_audio(ticket.clone(), ask);
        Ok(())
    }

    pub(super) fn end_stream(&mut self, ticket: &Ticket, end: &EndStream) -> Checked {
        let stream = stream(&end.stream)?;
        self.ask_audio(ticket.clone(), AudioAsk::End { stream });
        Ok(())
    }

    pub(super) fn set_playing(&mut self, ticket: &Ticket, set: SetPlaying) -> Checked {
        let stream = stream(&set.stream)?;
        line("playing", &set.playing, PLAYING_BYTES_MAX)?;
        self.ask_audio(ticket.clone(), AudioAsk::SetPlaying { stream, playing: set.playing });
        Ok(())
    }

    pub(super) fn listen_stream(&mut self, ticket: &Ticket, listen: &Listen) -> Checked {
        let ask = AudioAsk::Listen { stream: stream(&listen.stream)?, pin: pin(listen.pin)? };
        self.ask_audio(ticket.clone(), ask);
        Ok(())
    }

    pub(super) fn unlisten_stream(&mut self, ticket: &Ticket, unlisten: &Unlisten) -> Checked {
        let stream = stream(&unlisten.stream)?;
        self.ask_audio(ticket.clone(), AudioAsk::Unlisten { stream });
        Ok(())
    }

    pub(super) fn set_quality(&mut self, ticket: &Ticket, set: &SetQuality) -> Checked {
        let ask = AudioAsk::SetQuality { stream: stream(&set.stream)?, pin: pin(set.pin)? };
        self.ask_audio(ticket.clone(), ask);
        Ok(())
    }

    /// Has no answer, so it waits for none.
    pub(super) fn receiver_report(&mut self, report: ReceiverReport, now: Timestamp) {
        let ticket = Ticket { lane: veza_proto::Lane::Control, id: 0, purpose: crate::Purpose::Forget, since: now };
        self.outputs.push_back(Output::AskAudio { ticket, ask: AudioAsk::Report(report) });
    }

    /// A media packet came in: it is passed on when the client may send it. What comes too fast is dropped.
    pub fn handle_media(&mut self, packet: Bytes, now: Timestamp) {
        self.handle_alive(now);
        if !matches!(self.phase, Phase::Open(_)) {
            return;
        }
        match self.media.take(now) {
            Ok(()) => self.outputs.push_back(Output::Media(packet)),
            Err(_) => self.note(Note::MediaOverRate),
        }
    }

    fn ask_audio(&mut self, ticket: Ticket, ask: AudioAsk) {
        self.asks_in_flight += 1;
        self.outputs.push_back(Output::AskAudio { ticket, ask });
    }
}

fn stream(id: &str) -> Result<String, Error> {
    match RoomId::parse(id) {
        Ok(id) => Ok(String::from(&id)),
        Err(_) => Err(bad("a stream's id has 1 to 64 bytes of a-z 0-9 . _ -")),
    }
}

fn pin(number: i32) -> Result<QualityPin, Error> {
    QualityPin::try_from(number).map_err(|_| bad("pin is auto, low, medium or high"))
}

/// The place behind a stream in a list, for the next page.
pub fn place_after(stream: &AudioStream) -> String {
    format!("{}.{}", stream.started_ms, stream.id)
}

fn read_place(token: &str) -> Option<(u64, String)> {
    let (started_ms, stream) = token.split_once('.')?;
    Some((started_ms.parse().ok()?, RoomId::parse(stream).ok()?.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MEDIA_BURST, MEDIA_PER_SECOND};
    use crate::session::{Admitted, Profile, Settings};
    use std::time::Duration;
    use veza_proto::v1::{ClientFrame, Hello, PublishedRung, client_frame::Command};
    use veza_proto::{Format, Lane, UserId};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn session() -> Session {
        let profile =
            Profile { transport: "quic", format: Format::Proto, datagrams: true, needs_ping: false, jitter: 0 };
        let mut session = Session::new(std::sync::Arc::new(Settings::default()), profile, NOW);
        session.handle_frame(Lane::Control, frame(Command::Hello(Hello::default())), NOW);
        session
    }

    fn welcomed() -> Session {
        let mut session = session();
        let admitted = Admitted {
            user: UserId::parse("alice").unwrap(),
            session_id: String::new(),
            resume_token: String::new(),
            resumed: false,
            token_expires: NOW + Duration::from_secs(600),
        };
        session.handle_admitted(Ok(admitted), NOW);
        session
    }

    fn frame(command: Command) -> ClientFrame {
        ClientFrame { id: 7, command: Some(command) }
    }

    fn media(session: &mut Session) -> usize {
        std::iter::from_fn(|| session.poll_output()).filter(|output| matches!(output, Output::Media(_))).count()
    }

    /// What is asked of the streams, and what is refused.
    fn asked(session: &mut Session, command: Command) -> Result<AudioAsk, String> {
        session.handle_frame(Lane::Control, frame(command), NOW);
        while let Some(output) = session.poll_output() {
            if let Output::AskAudio { ask, .. } = output {
                return Ok(ask);
            }
        }
        let refused = std::iter::from_fn(|| session.pop_frame(Lane::Control)).last();
        Err(format!("{:?}", refused.map(|frame| frame.frame().clone())))
    }

    #[test]
    fn media_packets_at_their_rate_and_one_past() {
        let mut session = welcomed();
        for _ in 0..=MEDIA_BURST {
            session.handle_media(Bytes::from_static(&[2]), NOW);
        }
        assert_eq!(media(&mut session), MEDIA_BURST as usize);
        let later = NOW + Duration::from_secs(1);
        for _ in 0..=MEDIA_PER_SECOND {
            session.handle_media(Bytes::from_static(&[2]), later);
        }
        assert_eq!(media(&mut session), MEDIA_PER_SECOND as usize);
    }

    #[test]
    fn before_the_welcome_no_media_is_taken() {
        let mut session = session();
        session.handle_media(Bytes::from_static(&[2]), NOW);
        assert_eq!(media(&mut session), 0);
    }

    #[test]
    fn reports_come_by_datagram_and_nothing_else_of_streams() {
        let mut session = welcomed();
        while session.poll_output().is_some() {}
        session.handle_datagram(frame(Command::ReceiverReport(ReceiverReport::default())), NOW);
        assert!(matches!(session.poll_output(), Some(Output::AskAudio { ask: AudioAsk::Report(_), .. })));
        session.handle_datagram(frame(Command::Listen(Listen::default())), NOW);
        assert!(session.poll_output().is_none());
    }

    #[test]
    fn fields_at_their_bounds_and_one_past() {
        let mut session = welcomed();
        let mut create = |stream: usize, title: usize, description: usize| {
            let create = CreateStream {
                stream: "s".repeat(stream),
                title: "t".repeat(title),
                description: "d".repeat(description),
                ..CreateStream::default()
            };
            asked(&mut session, Command::CreateStream(create)).is_ok()
        };
        assert!(create(57, 128, 2_048));
        assert!(!create(58, 1, 0) && !create(0, 1, 0) && !create(1, 0, 0));
        assert!(!create(1, 129, 0) && !create(1, 1, 2_049));

        let mut playing = |bytes: usize| {
            let set = SetPlaying { stream: "show".into(), playing: "p".repeat(bytes) };
            asked(&mut session, Command::SetPlaying(set)).is_ok()
        };
        assert!(playing(256) && !playing(257));

        let rungs = vec![PublishedRung { rung: 0, bits_per_second: 96_000, channels: 2 }];
        let publish = PublishStream { stream: "show".into(), rungs };
        assert!(asked(&mut session, Command::PublishStream(publish)).is_ok());
        let listen = Listen { stream: "show".into(), pin: 4 };
        let refused = asked(&mut session, Command::Listen(listen)).unwrap_err();
        assert!(refused.contains("pin is auto, low, medium or high"), "{refused}");
        let list = ListStreams { limit: 0, page_token: "nonsense".into() };
        assert!(asked(&mut session, Command::ListStreams(list)).is_err());
        let list =
            ListStreams { limit: 0, page_token: place_after(&AudioStream { id: "a.b".into(), ..Default::default() }) };
        let asked = asked(&mut session, Command::ListStreams(list));
        assert_eq!(asked, Ok(AudioAsk::List { after: Some((0, "a.b".into())), limit: 50 }));
    }
}
