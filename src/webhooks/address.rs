use std::net::IpAddr;

use http::Uri;

use crate::config;
use crate::dial::{DialError, Peer, Stream, Tls, is_public};

/// An address as it is written, bytes.
const URL_BYTES_MAX: usize = 2_048;
/// A name in the DNS and one of its labels, bytes (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Where a webhook leads, as far as that is known without asking anybody.
#[derive(Debug, Clone)]
pub(super) struct Address {
    url: Uri,
    peer: Peer,
}

impl Address {
    /// # Errors
    /// What an address must be, as a sentence for people.
    pub(super) fn parse(written: &str, rules: &config::Webhooks) -> Result<Self, String> {
        if written.is_empty() || written.len() > URL_BYTES_MAX {
            return Err(format!("an address has 1 to {URL_BYTES_MAX} bytes"));
        }
        if !written.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("an address has visible ASCII characters only; write others as %XX".into());
        }
        if written.contains('#') {
            return Err("an address has no fragment".into());
        }
        let url: Uri = written.parse().map_err(|_| "this is no address".to_owned())?;
        let here = rules.allow_private && host(&url)?.is_here();
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if here => {}
            _ => return Err("an address begins with https://".into()),
        }
        let authority = url.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err("an address names no user".into());
        }
        // What is no number here the library would take for none, and so for the usual one.
        let port = authority.strip_prefix(url.host().unwrap_or_default()).and_then(|rest| rest.strip_prefix(':'));
        if port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) != port.is_some() {
            return Err("a port is a number from 1 to 65535".into());
        }
        if !rules.allow_private && !host(&url)?.may_be_public() {
            return Err(DialError::NotPublic.to_string());
        }
        let tls = Tls { ca_file: rules.ca_file.clone(), alpn: &[b"http/1.1"], ..Tls::default() };
        let peer = Peer::of(&url, tls).map_err(|error| error.to_string())?;
        Ok(Self { url, peer: if rules.allow_private { peer } else { peer.in_public() } })
    }

    /// What is asked for there.
    pub(super) fn target(&self) -> &str {
        self.url.path_and_query().map_or("/", |target| target.as_str())
    }

    /// Whom we mean, as the header `Host` says it.
    pub(super) fn authority(&self) -> &str {
        self.url.authority().map_or("", |authority| authority.as_str())
    }

    /// Looks the name up and connects, if it leads where we may go.
    pub(super) async fn dial(&self) -> Result<Box<dyn Stream>, DialError> {
        self.peer.dial().await
    }
}

enum Host<'a> {
    Literal(IpAddr),
    Name(&'a str),
}

fn host(url: &Uri) -> Result<Host<'_>, String> {
    let host = url.host().unwrap_or_default();
    if let Some(inside) = host.strip_prefix('[') {
        let literal = inside.strip_suffix(']').and_then(|text| text.parse().ok());
        return literal.map(Host::Literal).ok_or_else(|| "what stands in [ ] is an IPv6 address".into());
    }
    if let Ok(literal) = host.parse() {
        return Ok(Host::Literal(literal));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // Resolvers take what ends with a number for an IPv4 address in one of its odd forms.
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) || is_number {
        return Err("the host is a name or an IP address".into());
    }
    Ok(Host::Name(name))
}

impl Host<'_> {
    /// This machine, by what is written.
    fn is_here(&self) -> bool {
        match self {
            Host::Literal(address) => address.is_loopback(),
            Host::Name(name) => {
                let name = name.to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }

    /// Where a name leads is seen when it is called.
    fn may_be_public(&self) -> bool {
        match self {
            Host::Literal(address) => is_public(*address),
            Host::Name(_) => !self.is_here(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(url: &str, allow_private: bool) -> Result<Address, String> {
        Address::parse(url, &config::Webhooks { allow_private, ca_file: None, give_up_after: Duration::ZERO })
    }

    #[test]
    fn an_address_is_https_and_in_public() {
        for (good, target, authority) in [
            ("https://hooks.example", "/", "hooks.example"),
            ("https://hooks.example:8443/veza?token=1&x=%20", "/veza?token=1&x=%20", "hooks.example:8443"),
            ("https://a_b.xn--bcher-kva.example./", "/", "a_b.xn--bcher-kva.example."),
            ("https://8.8.8.8/", "/", "8.8.8.8"),
            ("https://[2606:4700::1111]:1/", "/", "[2606:4700::1111]:1"),
            ("HTTPS://Hooks.Example/", "/", "Hooks.Example"),
        ] {
            let address = parse(good, false).unwrap_or_else(|why| panic!("{good}: {why}"));
            assert_eq!((address.target(), address.authority()), (target, authority));
        }
        for bad in [
            "",
            "hooks.example",
            "//hooks.example/",
            "/veza",
            "http://hooks.example/",
            "ftp://hooks.example/",
            "https://",
            "https:///veza",
            "https://user@hooks.example/",
            "https://user:password@hooks.example/",
            "https://hooks.example/#there",
            "https://hooks.example/a b",
            "https://hooks.example/ü",
            "https://hooks.example:0/",
            "https://hooks.example:65536/",
            "https://hooks.example:/",
            "https://[2606:4700::1111]:65536/",
            "https://hooks..example/",
            "https://hooks.example:/x:y@z",
            "https://10.0.0.1/",
            "https://127.0.0.1:8443/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:8.8.8.8]/",
            "https://[fe80::1%25eth0]/",
            "https://localhost/",
            "https://veza.LOCALHOST./",
            "https://2130706433/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://hooks.0x7f/",
            "http://127.0.0.1/",
        ] {
            assert!(parse(bad, false).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn an_address_at_its_limit_and_one_past() {
        let of = |bytes: usize| format!("https://hooks.example/{}", "x".repeat(bytes - 22));
        assert_eq!(of(URL_BYTES_MAX).len(), URL_BYTES_MAX);
        assert!(parse(&of(URL_BYTES_MAX), false).is_ok() && parse(&of(URL_BYTES_MAX + 1), false).is_err());
        let label = "a".repeat(LABEL_BYTES_MAX);
        assert!(parse(&format!("https://{label}.example/"), false).is_ok());
        assert!(parse(&format!("https://{label}a.example/"), false).is_err());
        let name = |bytes: usize| format!("{}{}", "a.".repeat(10), [label.as_str(); 4].join("."))[..bytes].to_owned();
        assert!(parse(&format!("https://{}/", name(NAME_BYTES_MAX)), false).is_ok());
        assert!(parse(&format!("https://{}/", name(NAME_BYTES_MAX + 1)), false).is_err());
    }

    #[test]
    fn what_is_private_is_let_through_by_name_only() {
        for good in [
            "https://10.0.0.1/",
            "https://localhost:1/",
            "http://127.0.0.1:1/x",
            "http://[::1]:1/",
            "http://localhost/",
        ] {
            assert!(parse(good, true).is_ok(), "{good}");
        }
        for bad in
            ["http://10.0.0.1/", "http://hooks.example/", "http://user@127.0.0.1/", "http://127.1/", "ws://127.0.0.1/"]
        {
            assert!(parse(bad, true).is_err(), "{bad}");
        }
    }
}
