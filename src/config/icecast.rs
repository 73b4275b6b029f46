use super::Icecast;
use super::reader::Reader;

impl Reader<'_> {
    /// `Some(None)` where the door stays shut: no port is set.
    pub(super) fn icecast(&mut self) -> Option<Option<Icecast>> {
        const PORT: &str = "ICECAST_PORT";
        let host = self.address("ICECAST_HOST");
        let sources_max = self.number("ICECAST_SOURCES_MAX");
        let port = match self.source.get(PORT) {
            Some(_) => Some(self.number_or(PORT, 0)?),
            None => {
                self.show(PORT, "(none)".into());
                None
            }
        };
        let host = host?;
        if port.is_some() && !host.is_loopback() {
            self.warnings.push(
                "ICECAST_HOST: source clients send their tokens without TLS, readable for whoever listens on the way"
                    .into(),
            );
        }
        let sources_max = sources_max?;
        Some(port.map(|port| Icecast { host, port, sources_max }))
    }
}
