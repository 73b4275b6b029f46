//! The real binary as a child process, on free ports, with a data directory of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use veza_client::{Endpoints, Server};

/// What servers that are to know tokens of our own making check them with.
const SECRET: &str = "a secret of the tests, longer than 32 bytes";

/// A running server. Dropping it kills the process.
pub struct Process {
    child: Child,
    pub http: u16,
    pub websocket: u16,
    pub metrics: u16,
    /// The API of the platform's backend; 0 where it is not served.
    pub gateway: u16,
    /// The door of source clients; 0 where it is shut.
    pub icecast: u16,
    pub data: PathBuf,
    /// What it says, logs and greeting: until it listened, and since.
    early: Vec<String>,
    said: mpsc::Receiver<String>,
    kept: Option<tempfile::TempDir>,
    is_settled: bool,
}

/// How a server is to be started.
#[derive(Default, Clone)]
pub struct Start {
    variables: Vec<(String, String)>,
    data: Option<PathBuf>,
    wrapper: Vec<String>,
    is_settled: bool,
}

impl Start {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn variable(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// Takes tokens of [`token_with`], and limits that no test meets by chance.
    pub fn roomy(self) -> Self {
        self.variable("AUTH_ALGORITHM", "HS256")
            .variable("AUTH_HS256_SECRET", SECRET)
            .variable("VEZA_REQUESTS_PER_SECOND", 10_000)
            .talkative()
    }

    /// Lets everybody publish faster than any test does.
    pub fn talkative(self) -> Self {
        self.variable("VEZA_PUBLISH_PER_SECOND", 10_000)
            .variable("VEZA_PUBLISH_BURST", 10_000)
            .variable("VEZA_USER_PUBLISH_PER_SECOND", 10_000)
            .variable("VEZA_USER_PUBLISH_BURST", 10_000)
    }

    /// Uses this data directory, which the caller keeps.
    pub fn data(mut self, path: &Path) -> Self {
        self.data = Some(path.to_owned());
        self
    }

    /// Takes ports below those the kernel gives away, so that nobody has them meanwhile when the server comes back.
    pub fn settled(mut self) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut free = std::iter::repeat_with(|| {
            let nth = std::process::id().wrapping_mul(97) + NEXT.fetch_add(1, Ordering::Relaxed);
            u16::try_from(18_000 + nth % 14_000).unwrap()
        })
        .filter(|port| {
            TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
        });
        let mut next = || free.next().unwrap();
        self.is_settled = true;
        self.variable("PORT", next()).variable("WS_PORT", next()).variable("PROMETHEUS_PORT", next())
    }

    /// Runs the server under another program, such as strace.
    pub fn under(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts it and waits until it listens.
    pub fn run(self) -> Process {
        let kept = self.data.is_none().then(|| tempfile::tempdir().unwrap());
        let data = self.data.clone().unwrap_or_else(|| kept.as_ref().unwrap().path().to_owned());
        let mut child = self.command(&data, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = listen(&mut child);
        let (early, is_settled) = (Vec::new(), self.is_settled);
        let (http, websocket, metrics, gateway, icecast) = (0, 0, 0, 0, 0);
        let mut process =
            Process { child, http, websocket, metrics, gateway, icecast, data, early, said, kept, is_settled };
        process.wait_until_it_listens();
        process
    }

    /// Runs it with these arguments until it ends by itself. Its data directory must be given.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(self.data.as_ref().unwrap(), arguments).output().unwrap()
    }

    fn command(&self, data: &Path, arguments: &[&str]) -> Command {
        let mut words = self.wrapper.clone();
        words.push(env!("CARGO_BIN_EXE_veza").to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).env_clear().current_dir(data);
        for name in ["PATH", "HOME", "LD_LIBRARY_PATH"] {
            if let Ok(value) = std::env::var(name) {
                command.env(name, value);
            }
        }
        let defaults = [("HOST", "127.0.0.1"), ("PORT", "0"), ("WS_PORT", "0"), ("GRPC_PORT", "0")];
        // What is published is what is heard, where a test does not say otherwise.
        command
            .envs(defaults)
            .env("AUDIO_CODEC_THREADS", "0")
            .env("PROMETHEUS_PORT", "0")
            .env("VEZA_DATA_DIR", data.join("data"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Process {
    pub fn start() -> Self {
        Start::new().run()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Sends SIGTERM and waits for the end: the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.terminate();
        self.wait(Duration::from_secs(40))
    }

    /// Waits for the end, so long at most: the exit code.
    pub fn wait(&mut self, at_most: Duration) -> Option<i32> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server did not stop within {at_most:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything it has said, once it has ended.
    pub fn said(mut self) -> Vec<String> {
        self.stop();
        self.early.iter().cloned().chain(self.said.iter()).collect()
    }

    /// A start with the same ports and data, after [`Process::kill`], of a server that was started [`Start::settled`]:
    /// other ports may be somebody else's by now.
    pub fn again(&self) -> Start {
        assert!(self.is_settled, "what is to come back must be started settled");
        let start = Start { is_settled: true, ..Start::new() };
        start
            .data(&self.data)
            .variable("PORT", self.http)
            .variable("WS_PORT", self.websocket)
            .variable("PROMETHEUS_PORT", self.metrics)
    }

    /// Keeps the data directory beyond this process.
    pub fn keep_data(&mut self) -> Option<tempfile::TempDir> {
        self.kept.take()
    }

    /// `GET` of a path, once.
    pub fn get(&self, path: &str) -> Answer {
        get(self.http, path, "")
    }

    pub async fn describe(&self) -> (Server, Endpoints) {
        let server = Server::discover(&self.url()).await.unwrap();
        let endpoints = server.endpoints().unwrap();
        (server, endpoints)
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.http == 0 {
            match self.said.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    if line.contains("listening") {
                        let port = |name: &str| {
                            // As development writes it, or as production's JSON does.
                            let value = [format!(" {name}="), format!("\"{name}\":\"")];
                            let value = value.iter().find_map(|before| line.split(before.as_str()).nth(1))?;
                            value.split([' ', '"']).next().unwrap().rsplit(':').next().unwrap().parse().ok()
                        };
                        let must = |name: &str| port(name).unwrap_or_else(|| panic!("{line}"));
                        (self.websocket, self.metrics) = (must("websocket"), must("metrics"));
                        (self.http, self.gateway) = (must("http"), port("gateway").unwrap_or(0));
                        self.icecast = port("icecast").unwrap_or(0);
                    }
                    self.early.push(line);
                }
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => panic!("the server did not start:\n{}", self.early.join("\n")),
            }
        }
    }
}

/// A token for a server that was started [`Start::roomy`].
pub fn token_with(user: &str, entitlements: &[&str]) -> String {
    token_for(user, entitlements, Duration::from_secs(3_600))
}

/// As [`token_with`], good for so long.
pub fn token_for(user: &str, entitlements: &[&str], good_for: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = serde_json::json!({
        "iss": "veza", "aud": "veza", "sub": user, "iat": now, "nbf": now, "exp": now + good_for.as_secs(),
        "entitlements": entitlements,
    });
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let said = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("{said}.{}", encode(hmac::sign(&key, said.as_bytes()).as_ref()))
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

/// One HTTP/1.1 request on a connection of its own; every header ends with a line end.
pub fn get(port: u16, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let close = if headers.contains("Connection:") { "" } else { "Connection: close\r\n" };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}{close}\r\n").unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer { status: status.unwrap_or_else(|| panic!("{head}")), head: head.to_lowercase(), body: body.to_owned() }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

fn listen(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let error_sender = sender.clone();
    std::thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    std::thread::spawn(move || {
        BufReader::new(err).lines().map_while(Result::ok).try_for_each(|line| error_sender.send(line))
    });
    receiver
}
