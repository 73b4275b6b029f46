use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::Problem;
use super::super::Services;
use super::super::variables::{Kind, variable};
use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn read_pairs(pairs: Pairs<'_>) -> Result<Loaded, Problems> {
    read(&pairs.iter().copied().collect())
}

/// The one problem that is expected.
fn problem(pairs: Pairs<'_>) -> Problem {
    let problems = read_pairs(pairs).expect_err("this configuration must be refused").0;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().expect("it has one")
}

fn file(dir: &Path, name: &str, content: &str, mode: u32) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn nothing_set_is_a_working_development_configuration() {
    let Loaded { config, warnings, .. } = read_pairs(&[]).unwrap();
    assert_eq!(config.environment, Environment::Development);
    assert_eq!(config.service_name, "veza-stream-server");
    assert_eq!(config.version, env!("CARGO_PKG_VERSION"));
    assert_eq!((config.network.port, config.network.webtransport_port, config.network.ws_port), (8080, 8080, 8081));
    assert_eq!((config.gateway.host.to_string(), config.gateway.port), ("127.0.0.1".into(), 50051));
    assert!(matches!(config.gateway.services, Services::Nobody) && config.gateway.reflection);
    assert_eq!(config.database.url.expose(), "sqlite://./data/veza.db");
    assert_eq!((config.database.pool_size, config.database.timeout), (100, Duration::from_secs(5)));
    assert_eq!((config.redis.pool_size, config.redis.ttl), (50, Duration::from_secs(3600)));
    assert!(config.redis.url.is_none() && config.tls.files.is_none() && config.auth.key_file.is_none());
    assert_eq!(config.auth.algorithm, TokenAlgorithm::EdDsa);
    assert_eq!((config.monitoring.prometheus_port, config.monitoring.metrics), (9090, true));
    assert!(!config.monitoring.tracing);
    assert_eq!((config.performance.max_connections, config.performance.blocking_threads), (100_000, 32));
    assert!(config.performance.worker_threads >= 1);
    assert_eq!(config.performance.memory_limit_bytes, 8192 * 1024 * 1024);
    assert_eq!((config.limits.connections_per_address, config.limits.connections_per_user), (100, 10));
    assert_eq!((config.limits.rooms_per_connection, config.limits.requests_per_second), (128, 100));
    assert_eq!((config.limits.publish_per_second, config.limits.publish_burst), (20, 40));
    assert_eq!((config.limits.user_publish_per_second, config.limits.user_publish_burst), (40, 80));
    assert!(!config.webhooks.allow_private && config.webhooks.give_up_after == Duration::from_secs(1_800));
    assert_eq!(config.crash_at, None);
    assert_eq!(config.limits.drain_grace, Duration::from_secs(30));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn every_number_at_its_bounds_and_past_them() {
    for variable in VARIABLES {
        let Kind::Number { min, max, .. } = variable.kind else { continue };
        let name = variable.name;
        for good in [min, max] {
            // A port's bound may be another listener's default; those are moved out of the way.
            let others = [("PORT", "1"), ("WS_PORT", "2"), ("GRPC_PORT", "3"), ("PROMETHEUS_PORT", "4")];
            let mut pairs: Vec<(&str, &str)> = others.into_iter().filter(|(other, _)| *other != name).collect();
            let text = good.to_string();
            pairs.push((name, &text));
            let shown = read_pairs(&pairs).unwrap_or_else(|why| panic!("{name}={good}: {why}")).shown;
            assert!(shown.iter().any(|row| row.variable.name == name && row.value == text), "{name}={good}");
        }
        let mut bad = vec![(max + 1).to_string(), "many".into(), "1.5".into(), "99999999999999999999".into()];
        bad.extend([if min == 0 { "-1".into() } else { (min - 1).to_string() }]);
        for text in bad {
            let problem = problem(&[(name, &text)]);
            assert_eq!((problem.variable.as_str(), problem.given), (name, Some(format!("{text:?}"))));
            assert!(problem.why.contains(&format!("from {min} to {max}")), "{}", problem.why);
        }
    }
}

#[test]
fn every_flag_and_every_choice() {
    for (text, value) in [("true", true), ("FALSE", false), ("1", true), ("0", false)] {
        assert_eq!(read_pairs(&[("METRICS_ENABLED", text)]).unwrap().config.monitoring.metrics, value);
    }
    assert!(problem(&[("METRICS_ENABLED", "yes")]).why.contains("true or false"));
    assert!(problem(&[("ENVIRONMENT", "staging")]).why.contains("development, production"));
    assert!(problem(&[("AUTH_ALGORITHM", "none")]).why.contains("EdDSA, ES256, HS256"));
}

#[test]
fn all_errors_are_told_at_once_with_their_variables() {
    let problems = read_pairs(&[
        ("PORT", "80800"),
        ("HOST", "localhost"),
        ("DATABASE_URL", "mysql://root:hunter2@db/veza"),
        ("REDIS_URL", "hunter2"),
        ("AUTH_HS256_SECRET", "hunter2"),
        ("JAEGER_ENDPOINT", "http://jaeger:4317"),
        ("RUST_LOG", "veza=loud"),
        ("SERVICE_NAME", "two words"),
    ])
    .unwrap_err();
    let text = problems.to_string();
    assert!(text.starts_with("the configuration has 8 errors:\n"), "{text}");
    for name in [
        "PORT: given \"80800\"; allowed: a whole number from 0 to 65535",
        "HOST: given \"localhost\"; allowed: an IP address",
        "DATABASE_URL: given (hidden); allowed: sqlite://",
        "REDIS_URL: given (hidden); allowed: redis://",
        "AUTH_HS256_SECRET: given (hidden); HS256 needs 32 to 4096 bytes, this has 7",
        "JAEGER_ENDPOINT: given \"http://jaeger:4317\"; 4317 is OTLP over gRPC",
        "RUST_LOG: given \"veza=loud\"",
        "SERVICE_NAME: given \"two words\"",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn secrets_show_themselves_to_nobody() {
    let secret = "hunter2-hunter2-hunter2-hunter2-hunter2";
    let loaded = read_pairs(&[
        ("AUTH_ALGORITHM", "HS256"),
        ("AUTH_HS256_SECRET", secret),
        ("DATABASE_URL", "postgresql://u:hunter2@db/veza"),
        ("REDIS_URL", "redis://:hunter2@redis"),
    ])
    .unwrap();
    assert_eq!(loaded.config.auth.hs256_secret.as_ref().map(Secret::expose), Some(secret));
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn unknown_names_of_ours_warn_and_so_does_what_has_no_effect_yet() {
    let warnings =
        read_pairs(&[("VEZA_PUBLISH_BRUST", "1"), ("REDIS_POOL_SIZE", "3"), ("PATH", "/bin")]).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "VEZA_PUBLISH_BRUST is not a variable of this server and has no effect; did you mean VEZA_PUBLISH_BURST?",
            "REDIS_POOL_SIZE is accepted, but takes effect only with clusters",
        ]
    );
}

#[test]
fn tcp_ports_differ_unless_they_are_chosen_freely() {
    assert_eq!(problem(&[("WS_PORT", "8080")]).variable, "WS_PORT");
    assert_eq!(problem(&[("GRPC_PORT", "9090")]).variable, "PROMETHEUS_PORT");
    let free = [("PORT", "0"), ("WS_PORT", "0"), ("GRPC_PORT", "0"), ("PROMETHEUS_PORT", "0")];
    assert_eq!(read_pairs(&free).unwrap().config.network.webtransport_port, 0);
    assert!(read_pairs(&[("WEBTRANSPORT_PORT", "8081")]).is_ok(), "UDP has its own numbers");
    assert!(read_pairs(&[("GRPC_PORT", "9090"), ("METRICS_ENABLED", "false")]).is_ok());
}

#[test]
fn tracing_needs_somewhere_to_go() {
    assert_eq!(problem(&[("TRACING_ENABLED", "true")]).variable, "JAEGER_ENDPOINT");
    let pairs = [("TRACING_ENABLED", "true"), ("JAEGER_ENDPOINT", "http://jaeger:14268/api/traces")];
    let monitoring = read_pairs(&pairs).unwrap().config.monitoring;
    assert_eq!(monitoring.otlp_endpoint.as_deref(), Some("http://jaeger:4318/v1/traces"));
}

#[test]
fn names_and_claims_at_their_limits_and_one_past() {
    for (name, max) in [("SERVICE_NAME", 64), ("VERSION", 64), ("AUTH_ISSUER", 256), ("AUTH_AUDIENCE", 256)] {
        assert!(read_pairs(&[(name, &"a".repeat(max))]).is_ok(), "{name}");
        assert_eq!(problem(&[(name, &"a".repeat(max + 1))]).variable, name);
    }
}

#[test]
fn hs256_secrets_at_their_limits_and_past_them() {
    let with = |bytes: usize| read_pairs(&[("AUTH_ALGORITHM", "HS256"), ("AUTH_HS256_SECRET", &"k".repeat(bytes))]);
    assert!(with(31).is_err() && with(32).is_ok() && with(4096).is_ok() && with(4097).is_err());
    let dir = tempfile::tempdir().unwrap();
    let good = file(dir.path(), "good", &format!("{}\n", "k".repeat(32)), 0o600);
    let bad = file(dir.path(), "bad", &format!("{}\n", "k".repeat(31)), 0o600);
    assert!(read_pairs(&[("AUTH_ALGORITHM", "HS256"), ("AUTH_KEY_FILE", &good)]).is_ok());
    assert!(problem(&[("AUTH_ALGORITHM", "HS256"), ("AUTH_KEY_FILE", &bad)]).why.contains("this has 31"));
}

#[test]
fn keys_and_algorithm_belong_together() {
    let secret = "k".repeat(32);
    let dir = tempfile::tempdir().unwrap();
    let key = file(dir.path(), "key.pem", "-----BEGIN PUBLIC KEY-----\n", 0o644);
    assert_eq!(problem(&[("AUTH_HS256_SECRET", &secret)]).variable, "AUTH_HS256_SECRET");
    assert_eq!(problem(&[("AUTH_ALGORITHM", "HS256")]).variable, "AUTH_HS256_SECRET");
    assert_eq!(problem(&[("AUTH_ALGORITHM", "ES256")]).variable, "AUTH_KEY_FILE");
    assert!(read_pairs(&[("AUTH_ALGORITHM", "ES256"), ("AUTH_KEY_FILE", &key)]).is_ok());
    let both = [("AUTH_ALGORITHM", "HS256"), ("AUTH_HS256_SECRET", &secret), ("AUTH_KEY_FILE", &key)];
    assert!(problem(&both).why.contains("one key is enough"));
    assert!(problem(&[("AUTH_KEY_FILE", "/nonexistent/key.pem")]).why.contains("cannot be read"));
}

#[test]
fn production_refuses_what_only_development_may_do_without() {
    let problems = read_pairs(&[("ENVIRONMENT", "production")]).unwrap_err().0;
    let names: Vec<&str> = problems.iter().map(|problem| problem.variable.as_str()).collect();
    assert_eq!(names, ["VEZA_ALLOWED_ORIGINS", "TLS_CERT_FILE", "AUTH_KEY_FILE"]);
}

#[test]
fn production_with_everything_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let cert = file(dir.path(), "cert.pem", "-----BEGIN CERTIFICATE-----\n", 0o644);
    let key = file(dir.path(), "key.pem", "-----BEGIN PRIVATE KEY-----\n", 0o640);
    let token_key = file(dir.path(), "token.pem", "-----BEGIN PUBLIC KEY-----\n", 0o644);
    let production = |changed: (&'static str, &str)| {
        let mut pairs = vec![
            ("ENVIRONMENT", "production"),
            ("TLS_CERT_FILE", cert.as_str()),
            ("TLS_KEY_FILE", key.as_str()),
            ("AUTH_KEY_FILE", token_key.as_str()),
            ("VEZA_ALLOWED_ORIGINS", "https://veza.example, https://app.veza.example:8443,"),
        ];
        pairs.retain(|(name, _)| *name != changed.0);
        pairs.push(changed);
        read_pairs(&pairs)
    };
    let private = production(("WEBHOOKS_ALLOW_PRIVATE", "true")).unwrap();
    assert!(private.config.webhooks.allow_private && private.warnings[0].starts_with("WEBHOOKS_ALLOW_PRIVATE: "));
    let config = production(("LANG", "C")).unwrap().config;
    assert_eq!(config.network.allowed_origins, ["https://veza.example", "https://app.veza.example:8443"]);

    let open_key = file(dir.path(), "open.pem", "-----BEGIN PRIVATE KEY-----\n", 0o644);
    for (changed, said) in [
        (("TLS_KEY_FILE", open_key.as_str()), "everybody may read this key"),
        (("AUTH_KEY_FILE", open_key.as_str()), "everybody may read this key"),
        (("TLS_KEY_FILE", ""), "needs its private key"),
        (("TLS_CERT_FILE", ""), "needs its certificate"),
        (("TLS_CERT_FILE", "/nonexistent"), "cannot be read"),
        (("WEBHOOKS_CA_FILE", "/nonexistent"), "cannot be read"),
        (("TLS_CERT_FILE", dir.path().to_str().unwrap()), "is a directory"),
        (("AUTH_KEY_FILE", ""), "production needs the key"),
        (("VEZA_ALLOWED_ORIGINS", ""), "production needs the exact origins"),
        (("VEZA_ALLOWED_ORIGINS", "*"), "wildcards are not allowed"),
        (("VEZA_ALLOWED_ORIGINS", "null"), "`null`"),
        (("VEZA_ALLOWED_ORIGINS", "http://veza.example"), "only https origins"),
        (("VEZA_PUBLIC_URL", "http://veza.example"), "reached by https"),
        (("AUTH_HS256_SECRET", "short"), "HS256 needs 32"),
    ] {
        let problems = production(changed).expect_err(changed.0).0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].why.contains(said), "{said:?} is not in {:?}", problems[0].why);
    }
    assert!(production(("VEZA_ALLOWED_ORIGINS", "http://localhost:3000")).is_ok(), "a page on the same machine");
}

#[test]
fn a_readable_key_is_only_a_warning_in_development() {
    let dir = tempfile::tempdir().unwrap();
    let cert = file(dir.path(), "cert.pem", "-----BEGIN CERTIFICATE-----\n", 0o644);
    let key = file(dir.path(), "key.pem", "-----BEGIN PRIVATE KEY-----\n", 0o644);
    let loaded = read_pairs(&[("TLS_CERT_FILE", &cert), ("TLS_KEY_FILE", &key)]).unwrap();
    assert!(
        loaded.warnings.iter().any(|warning| warning.starts_with("TLS_KEY_FILE: everybody")),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn every_default_of_the_table_is_allowed() {
    for variable in VARIABLES {
        if let super::super::variables::Default::Fixed(text) = variable.default {
            assert!(read_pairs(&[(variable.name, text)]).is_ok(), "{}={text}", variable.name);
        }
    }
    assert!(!variable("PORT").is_secret() && variable("REDIS_URL").is_secret());
}

#[test]
fn a_crash_is_for_development_only() {
    let loaded = read_pairs(&[("VEZA_CRASH_AT", "after_commit:2")]).unwrap();
    assert!(loaded.config.crash_at.is_some());
    assert!(read_pairs(&[("VEZA_CRASH_AT", "somewhere")]).is_err());
    let problems = read_pairs(&[("VEZA_CRASH_AT", "after_commit"), ("ENVIRONMENT", "production")]).unwrap_err();
    assert!(problems.to_string().contains("VEZA_CRASH_AT"));
}
