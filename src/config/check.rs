//! The grammars of single values. Each answers with the value or with what is wrong with it.

use std::fs::File;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use http::Uri;

/// An exact origin as browsers write it (RFC 6454, section 6.2): scheme, host, and a port that is not the scheme's own.
pub(super) fn origin(text: &str) -> Result<String, String> {
    if text == "*" || text.contains('*') {
        return Err("wildcards are not allowed; write every origin out".into());
    }
    if text.eq_ignore_ascii_case("null") {
        return Err("`null` stands for any sandboxed page and is not allowed".into());
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return Err("an origin begins with https:// or http://".into());
    };
    let own_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return Err("an origin begins with https:// or http://".into()),
    };
    if authority.contains(['/', '?', '#']) {
        return Err("an origin has no path, not even a `/` at its end".into());
    }
    if authority.contains('@') {
        return Err("an origin has no user".into());
    }
    let (host, port) = host_and_port(authority)?;
    if host.chars().any(|c| c.is_ascii_uppercase()) {
        return Err("browsers write the host in lower case".into());
    }
    if port == Some(own_port) {
        return Err(format!("browsers leave :{own_port} out of a {scheme} origin"));
    }
    Ok(text.into())
}

/// Whether an http origin is still this machine, which browsers treat as secure.
pub(super) fn is_loopback_origin(origin: &str) -> bool {
    let authority = origin.split_once("://").map_or("", |(_, rest)| rest);
    host_and_port(authority).is_ok_and(|(host, _)| {
        host == "localhost"
            || host.ends_with(".localhost")
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// Somebody whom the server calls: by TLS, or on this machine.
pub(super) fn called(text: &str) -> Result<Uri, String> {
    const WANTED: &str = "allowed: https://host[:port]/…, or http:// to this machine (127.0.0.1, [::1], localhost)";
    let url: Uri = text.parse().map_err(|_| WANTED.to_owned())?;
    let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if authority.contains('@') {
        return Err("a user or password in the address would be seen in logs; leave it out".into());
    }
    host_and_port(authority)?;
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_loopback_origin(&format!("http://{authority}")) => Ok(url),
        Some("http") => Err("other machines are called by https only".into()),
        Some(_) | None => Err(WANTED.into()),
    }
}

/// Where spans go, as the URL the exporter posts to.
pub(super) fn otlp_endpoint(text: &str) -> Result<String, String> {
    const WANTED: &str = "write http://host:4318 (OTLP over HTTP) or http://host:14268/api/traces";
    let uri: Uri = text.parse().map_err(|_| WANTED.to_owned())?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err("spans go out without TLS; name a collector on this machine or network by http".into());
        }
        Some(_) | None => return Err(WANTED.into()),
    }
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if authority.contains('@') {
        return Err("a user or password in the address would be seen in logs; leave it out".into());
    }
    let (host, port) = host_and_port(authority)?;
    if uri.query().is_some() {
        return Err("the address has no query".into());
    }
    match (port, uri.path().trim_end_matches('/')) {
        (Some(4317), _) => {
            Err("4317 is OTLP over gRPC, which is not spoken here; use port 4318 (OTLP over HTTP)".into())
        }
        (Some(14268), "" | "/api/traces" | "/v1/traces") => Ok(format!("http://{host}:4318/v1/traces")),
        (_, "/api/traces") => Err("only port 14268 has /api/traces; for OTLP over HTTP write http://host:4318".into()),
        (_, "" | "/v1/traces") => Ok(format!("http://{authority}/v1/traces")),
        (_, path) if path.ends_with("/v1/traces") => Ok(format!("http://{authority}{path}")),
        (_, _) => Err("the path must be empty or end with /v1/traces".into()),
    }
}

/// Only the shape; the errors never repeat the text, which may hold a password.
pub(super) fn database_url(text: &str) -> Result<(), String> {
    const WANTED: &str = "allowed: sqlite://<file>, or postgresql://[user[:password]@]host[:port]/database";
    if let Some(file) = text.strip_prefix("sqlite:") {
        let path = file.trim_start_matches('/').split('?').next().unwrap_or_default();
        if path.is_empty() {
            return Err(format!("the file's name is missing; {WANTED}"));
        }
        if path == ":memory:" || file.contains("mode=memory") {
            return Err("a database in memory forgets what was acknowledged; name a file".into());
        }
        return Ok(());
    }
    let Some(rest) = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) else {
        return Err(WANTED.into());
    };
    let (authority, path) = rest.split_once('/').ok_or_else(|| format!("the database's name is missing; {WANTED}"))?;
    if path.split('?').next().unwrap_or_default().is_empty() {
        return Err(format!("the database's name is missing; {WANTED}"));
    }
    network_authority(authority).map_err(|why| format!("{why}; {WANTED}"))
}

/// As [`database_url`].
pub(super) fn redis_url(text: &str) -> Result<(), String> {
    const WANTED: &str = "allowed: redis://[user[:password]@]host[:port][/db] or rediss://…";
    let Some(rest) = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://")) else {
        return Err(WANTED.into());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    network_authority(authority).map_err(|why| format!("{why}; {WANTED}"))
}

fn network_authority(authority: &str) -> Result<(), String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host_and_port(host).map(|_| ()).map_err(|_| "the host or the port is not valid".into())
}

/// Splits `host[:port]`, the host a name, an IPv4 address or an IPv6 address in brackets.
fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("the IPv6 address has no closing bracket")?;
            address.parse::<Ipv6Addr>().map_err(|_| "that is no IPv6 address".to_owned())?;
            (&authority[..address.len() + 2], after)
        }
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '%' | '[' | ']' | ':');
    if host.is_empty() || host.len() > 255 || !host.chars().all(named) {
        return Err("the host is not valid (names that are not ASCII are written as xn--…)".into());
    }
    let port = match port.strip_prefix(':') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0).ok_or("the port must be from 1 to 65535")?)
        }
        Some(_) => return Err("the port must be from 1 to 65535".into()),
        None if port.is_empty() => None,
        None => return Err("the host is not valid".into()),
    };
    Ok((host, port))
}

/// Shows a URL without user, password and query.
pub(super) fn mask_url(text: &str) -> String {
    let (before, query) = text.split_once('?').map_or((text, ""), |(before, _)| (before, "?***"));
    match before.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}{query}"),
            None => format!("{scheme}://{rest}{query}"),
        },
        None => format!("{before}{query}"),
    }
}

/// A file that is there and can be opened.
pub(super) fn readable(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let about = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if about.is_dir() { Err("is a directory, not a file".into()) } else { Ok(()) }
}

/// Whether users outside the file's owner and group may read it.
pub(crate) fn is_world_readable(path: &Path) -> std::io::Result<bool> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact() {
        for good in [
            "https://veza.example",
            "https://veza.example:8443",
            "http://localhost:8080",
            "http://127.0.0.1:1",
            "https://[::1]:65535",
        ] {
            assert_eq!(origin(good), Ok(good.into()));
        }
        for bad in [
            "*",
            "https://*.veza.example",
            "null",
            "NULL",
            "veza.example",
            "https://",
            "https://veza.example/",
            "https://veza.example/chat",
            "https://veza.example?x",
            "https://user@veza.example",
            "https://Veza.example",
            "https://veza.example:443",
            "http://veza.example:80",
            "https://veza.example:0",
            "https://veza.example:65536",
            "https://veza.example:",
            "https://[::1",
            "https://vezä.example",
            "ftp://veza.example",
            "",
        ] {
            assert!(origin(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn loopback_origins() {
        for here in ["http://localhost", "http://app.localhost:3000", "http://127.0.0.1:8080", "http://[::1]"] {
            assert!(is_loopback_origin(here), "{here}");
        }
        assert!(!is_loopback_origin("http://localhost.example"));
        assert!(!is_loopback_origin("http://10.0.0.1"));
    }

    #[test]
    fn jaegers_own_collector_is_taken_as_otlp() {
        for (given, taken) in [
            ("http://jaeger:14268/api/traces", "http://jaeger:4318/v1/traces"),
            ("http://jaeger:14268", "http://jaeger:4318/v1/traces"),
            ("http://[::1]:14268/api/traces", "http://[::1]:4318/v1/traces"),
            ("http://jaeger:4318", "http://jaeger:4318/v1/traces"),
            ("http://jaeger:4318/", "http://jaeger:4318/v1/traces"),
            ("http://jaeger:4318/v1/traces", "http://jaeger:4318/v1/traces"),
            ("http://127.0.0.1:39999/v1/traces", "http://127.0.0.1:39999/v1/traces"),
            ("http://otlp.example/tenant/v1/traces", "http://otlp.example/tenant/v1/traces"),
        ] {
            assert_eq!(otlp_endpoint(given), Ok(taken.into()), "{given}");
        }
    }

    #[test]
    fn grpc_and_other_addresses_are_refused_with_a_hint() {
        assert!(otlp_endpoint("http://jaeger:4317").unwrap_err().contains("4318"));
        assert!(otlp_endpoint("https://otlp.example/v1/traces").unwrap_err().contains("without TLS"));
        for bad in
            ["jaeger:4318", "udp://jaeger:6831", "http://u:p@jaeger:4318", "http://j:4318/x", "http://j:4318?a=b"]
        {
            assert!(otlp_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn database_urls_by_shape_only_and_never_repeated() {
        for good in [
            "sqlite:///var/lib/veza/veza.db",
            "sqlite://data/veza.db",
            "sqlite:veza.db?mode=rwc",
            "postgresql://veza:p@ss@db:5432/veza",
            "postgres://db/veza?sslmode=require",
        ] {
            assert_eq!(database_url(good), Ok(()), "{good}");
        }
        for bad in [
            "mysql://hunter2@db/veza",
            "sqlite://",
            "sqlite::memory:",
            "postgresql://u:hunter2@db:5432",
            "postgresql://u:hunter2@db:99999/x",
            "postgresql://u:hunter2@/x",
        ] {
            let why = database_url(bad).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn redis_urls() {
        for good in ["redis://127.0.0.1", "redis://:pw@redis:6379/0", "rediss://u:p@redis.example:6380"] {
            assert_eq!(redis_url(good), Ok(()), "{good}");
        }
        for bad in ["http://redis", "redis://", "redis://redis:0", "redis://redis:70000"] {
            assert!(redis_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn masked_urls_keep_only_the_place() {
        assert_eq!(mask_url("postgresql://veza:p@ss@db:5432/veza?password=x"), "postgresql://***@db:5432/veza?***");
        assert_eq!(mask_url("sqlite://data/veza.db"), "sqlite://data/veza.db");
        assert_eq!(mask_url("redis://redis:6379/0"), "redis://redis:6379/0");
    }
}
