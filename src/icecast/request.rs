//! What a source client asks: a head of HTTP, or of what came before it (`SOURCE /mount ICE/1.0`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Lines of a head at most.
const LINES_MAX: usize = 64;

/// A head that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) ask: Ask,
    /// HTTP/1.1, which has `100 Continue` and chunks.
    pub(super) is_modern: bool,
    /// How it was asked, in the field's oldest way: such a client sends nothing before it reads a 200.
    is_source: bool,
    pub(super) credentials: Option<Credentials>,
    headers: Vec<(String, String)>,
}

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// To send sound under this mount, without its slash.
    Source { mount: String },
    /// To say what is played.
    Playing { mount: String, playing: String },
    /// A password that source clients have room for.
    Password,
    /// Which methods there are.
    Options,
}

/// A user name and what proves it. Its `Debug` shows neither.
#[derive(PartialEq, Eq)]
pub(super) struct Credentials {
    /// Empty for a bearer token.
    pub(super) user: String,
    pub(super) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why a head is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Malformed(&'static str),
    /// No such method.
    Method,
    /// Nothing is here.
    Path,
}

/// What a source client waits for before it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GoAhead {
    /// `100 Continue`; the answer comes behind the body.
    Continue,
    /// The answer itself: nothing can be said behind the body.
    Answer,
    /// It sends its body unasked and reads the answer behind it.
    Nothing,
}

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Until the connection ends.
    Open,
    Length(u64),
    Chunked,
}

impl Request {
    /// Reads a head, up to and without its empty line.
    pub(super) fn parse(head: &[u8]) -> Result<Self, Refused> {
        const LINE: Refused = Refused::Malformed("the first line is not METHOD /path VERSION");
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target, version) = (words.next(), words.next(), words.next());
        let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next()) else {
            return Err(LINE);
        };
        if !matches!(version, "HTTP/1.1" | "HTTP/1.0" | "ICE/1.0") {
            return Err(LINE);
        }
        let mut headers = Vec::new();
        for line in lines {
            if headers.len() == LINES_MAX {
                return Err(Refused::Malformed("more headers than anybody needs"));
            }
            let (name, value) = line.split_once(':').ok_or(Refused::Malformed("a header has no colon"))?;
            if name.is_empty() || name.contains(|c: char| !c.is_ascii_graphic()) {
                return Err(Refused::Malformed("a header's name is no name"));
            }
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let is_source = method == "SOURCE";
        let ask = match method {
            "PUT" | "SOURCE" => Ask::Source { mount: mount(target.split('?').next().unwrap_or_default())? },
            "GET" => asked(target)?,
            "OPTIONS" => Ask::Options,
            _ => return Err(Refused::Method),
        };
        let credentials = headers.iter().find(|(name, _)| name == "authorization");
        let credentials = credentials.map(|(_, value)| credentials_of(value)).transpose()?;
        Ok(Self { ask, is_modern: version == "HTTP/1.1", is_source, credentials, headers })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// What a source waits for before it sends.
    pub(super) fn go_ahead(&self) -> GoAhead {
        let expects = self.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        match (expects, self.is_source || !self.is_modern) {
            (true, _) => GoAhead::Continue,
            (false, true) => GoAhead::Answer,
            (false, false) => GoAhead::Nothing,
        }
    }

    pub(super) fn framing(&self) -> Result<Framing, Refused> {
        match (self.header("transfer-encoding"), self.header("content-length")) {
            (None, None) => Ok(Framing::Open),
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            (Some(coding), None) if coding.eq_ignore_ascii_case("identity") => Ok(Framing::Open),
            (Some(_), _) => Err(Refused::Malformed("the body's transfer encoding is not known")),
            // Some clients say 0 or -1 for a body without an end.
            (None, Some(length)) => match length.parse::<u64>() {
                Ok(0) | Err(_) => Ok(Framing::Open),
                Ok(length) => Ok(Framing::Length(length)),
            },
        }
    }

    /// Whether it is sound of a kind that is taken.
    pub(super) fn is_sound(&self) -> bool {
        let kind = self.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        const TAKEN: [&str; 12] = [
            "application/ogg",
            "audio/ogg",
            "audio/opus",
            "audio/mpeg",
            "audio/mp3",
            "audio/flac",
            "audio/x-flac",
            "audio/wav",
            "audio/wave",
            "audio/x-wav",
            "audio/vnd.wave",
            "application/x-ogg",
        ];
        TAKEN.contains(&kind.as_str())
    }
}

fn mount(path: &str) -> Result<String, Refused> {
    match path.strip_prefix('/') {
        None => Err(Refused::Malformed("the mount does not begin with a slash")),
        Some("") => Err(Refused::Path),
        Some(mount) => Ok(mount.to_owned()),
    }
}

/// `/password`, or `/admin/metadata?mode=updinfo&mount=/show&song=…`, as source clients say what is played.
fn asked(target: &str) -> Result<Ask, Refused> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path == "/password" {
        return Ok(Ask::Password);
    }
    if path != "/admin/metadata" && path != "/admin.cgi" {
        return Err(Refused::Path);
    }
    let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let value = |name: &str| pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    if value("mode") != Some("updinfo") {
        return Err(Refused::Malformed("mode=updinfo is all that is known here"));
    }
    let mount = self::mount(&text(&decoded(value("mount").unwrap_or_default())))?;
    let playing = match (value("song"), value("artist"), value("title")) {
        (Some(song), _, _) => text(&decoded(song)),
        (None, None, None) => return Err(Refused::Malformed("song= is missing")),
        (None, artist, title) => {
            let [artist, title] = [artist, title].map(|part| part.map(|part| text(&decoded(part))));
            veza_sound::tags::line(artist.as_deref(), title.as_deref()).unwrap_or_default()
        }
    };
    Ok(Ask::Playing { mount, playing: veza_sound::tags::line(None, Some(&playing)).unwrap_or_default() })
}

/// UTF-8, or else what older clients write.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// A form's value, without its escapes.
fn decoded(value: &str) -> Vec<u8> {
    let hex = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = match bytes.get(at + 1..at + 3) {
            Some([high, low]) if *byte == b'%' => hex(high).zip(hex(low)),
            Some(_) | None => None,
        };
        match (escape, byte) {
            (Some((high, low)), _) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (None, b'+') => out.push(b' '),
            (None, byte) => out.push(*byte),
        }
        at += 1;
    }
    out
}

fn credentials_of(value: &str) -> Result<Credentials, Refused> {
    const WRONG: Refused = Refused::Malformed("the authorization is neither Basic nor Bearer");
    let (scheme, rest) = value.split_once(' ').ok_or(WRONG)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credentials { user: String::new(), password: rest.trim().to_owned() });
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(WRONG);
    }
    let said = STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(WRONG)?;
    let (user, password) = said.split_once(':').ok_or(WRONG)?;
    Ok(Credentials { user: user.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Request, Refused> {
        Request::parse(head.as_bytes())
    }

    #[test]
    fn sources_as_different_clients_announce_them() {
        let put = parse(
            "PUT /show HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c291cmNlOmhhY2ttZQ==\r\nExpect: 100-Continue\r\n\
             Content-Type: audio/ogg; codecs=opus\r\nTransfer-Encoding: chunked",
        )
        .unwrap();
        assert_eq!(put.ask, Ask::Source { mount: "show".to_owned() });
        assert!(put.is_modern && put.go_ahead() == GoAhead::Continue && put.is_sound());
        assert_eq!(put.framing(), Ok(Framing::Chunked));
        let credentials = put.credentials.unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("source", "hackme"));
        assert_eq!(format!("{credentials:?}"), "***");

        let source = parse("SOURCE /show.mp3 ICE/1.0\nContent-Type: audio/mpeg\ncontent-length: -1").unwrap();
        assert_eq!(source.ask, Ask::Source { mount: "show.mp3".to_owned() });
        assert!(!source.is_modern && source.go_ahead() == GoAhead::Answer && source.is_sound());
        assert_eq!(source.framing(), Ok(Framing::Open));
        assert_eq!(parse("PUT /a HTTP/1.0\r\nContent-Length: 7").unwrap().framing(), Ok(Framing::Length(7)));
        assert_eq!(parse("PUT /a HTTP/1.1\r\nContent-Length: 7").unwrap().go_ahead(), GoAhead::Nothing);
        assert_eq!(parse("SOURCE /a HTTP/1.1").unwrap().go_ahead(), GoAhead::Answer);
    }

    #[test]
    fn what_is_played_in_every_spelling() {
        let playing = |query: &str| match parse(&format!("GET /admin/metadata?{query} HTTP/1.0")).map(|it| it.ask) {
            Ok(Ask::Playing { mount, playing }) => Ok((mount, playing)),
            Ok(other) => panic!("{other:?}"),
            Err(refused) => Err(refused),
        };
        let is = |playing: &str| Ok(("show".to_owned(), playing.to_owned()));
        assert_eq!(playing("mode=updinfo&mount=/show&song=A+%2B+B%21"), is("A + B!"));
        assert_eq!(playing("mount=%2Fshow&mode=updinfo&song=caf%C3%A9"), is("café"));
        assert_eq!(playing("mount=/show&mode=updinfo&song=caf%E9"), is("café"));
        assert_eq!(playing("mount=/show&mode=updinfo&artist=A&title=T"), is("A – T"));
        assert_eq!(playing("mount=/show&mode=updinfo&song=100%"), is("100%"));
        assert_eq!(playing("mount=/show&mode=updinfo&song=a%0d%0ab"), is("ab"));
        assert!(playing("mount=/show&mode=updinfo").is_err());
        assert!(playing("mount=show&mode=updinfo&song=x").is_err());
        assert!(playing("mount=/show&song=x").is_err());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for wrong in [
            "",
            "PUT",
            "PUT /x",
            "PUT /x HTTP/2",
            "PUT x HTTP/1.1",
            "PUT /x HTTP/1.1 y",
            "PUT /x HTTP/1.1\r\nno colon",
            "PUT /x HTTP/1.1\r\n: x",
            "PUT /x HTTP/1.1\r\na b: x",
            "PUT /x HTTP/1.1\r\nAuthorization: Digest x",
            "PUT /x HTTP/1.1\r\nAuthorization: Basic !!!",
        ] {
            assert!(matches!(parse(wrong), Err(Refused::Malformed(_))), "{wrong}");
        }
        assert_eq!(parse("POST /x HTTP/1.1"), Err(Refused::Method));
        assert_eq!(parse("PUT / HTTP/1.1"), Err(Refused::Path));
        assert_eq!(parse("GET /show HTTP/1.1"), Err(Refused::Path));
        let framed = |headers: &str| parse(&format!("PUT /x HTTP/1.1\r\n{headers}")).unwrap().framing();
        assert!(framed("Transfer-Encoding: gzip").is_err());
        assert!(framed("Transfer-Encoding: chunked\r\nContent-Length: 5").is_err(), "two lengths");
        assert!(!parse("PUT /x HTTP/1.1\r\nContent-Type: text/html").unwrap().is_sound());
    }

    #[test]
    fn headers_at_their_bound_and_one_past() {
        let head = |lines: usize| format!("PUT /x HTTP/1.1{}", "\r\na: b".repeat(lines));
        assert!(parse(&head(LINES_MAX)).is_ok());
        assert!(matches!(parse(&head(LINES_MAX + 1)), Err(Refused::Malformed(_))));
    }
}
