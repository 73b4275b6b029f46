//! The documents speak of what is there: links lead somewhere, metrics exist, every number of the protocol is told.

use std::collections::BTreeSet;

use veza::config::variables::VARIABLES;
use veza::gateway::scope;
use veza::telemetry::metrics::ALL;
use veza_proto::CloseCode;

use super::{files, none, read, root, table, ticked};

#[test]
fn links_between_documents_lead_somewhere() {
    let mut findings = Vec::new();
    for path in files(&[".md"]) {
        let text = read(&path);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            let elsewhere = target.contains("://") || target.starts_with("mailto:") || file.is_empty();
            let there = root().join(&path).parent().unwrap().join(file);
            if !elsewhere && !there.exists() {
                findings.push(format!("{path}: {target} leads nowhere"));
            }
        }
    }
    none(&findings);
}

/// The words of a text that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with(prefix)).collect()
}

#[test]
fn deployments_name_only_metrics_that_are_exported() {
    let mut findings = Vec::new();
    let mut named = 0;
    for path in files(&[".yaml", ".yml", ".rules", ".json"]).into_iter().filter(|path| path.starts_with("deploy/")) {
        for word in words(&read(&path), "veza_") {
            named += 1;
            let exported = |metric: &&veza::telemetry::metrics::Declared| match metric.kind {
                "histogram" => {
                    ["_bucket", "_sum", "_count"].iter().any(|part| word.strip_suffix(part) == Some(metric.name))
                }
                _ => metric.name == word,
            };
            if !ALL.iter().any(|metric| exported(&metric)) {
                findings.push(format!("{path}: {word} is no metric of src/telemetry/metrics.rs"));
            }
        }
    }
    assert!(named > 0, "no deployment watches anything");
    none(&findings);
}

#[test]
fn deployments_set_only_variables_that_are_read() {
    let mut findings = Vec::new();
    let prefixes = ["VEZA_", "AUTH_", "TLS_", "DATABASE_", "REDIS_", "GRPC_"];
    for path in files(&[".yaml", ".service", ".env.example", "Containerfile"]) {
        let text = read(&path);
        for word in prefixes.iter().flat_map(|prefix| words(&text, prefix)) {
            // Clients read VEZA_TOKEN and VEZA_URL.
            let known =
                VARIABLES.iter().any(|variable| variable.name == word) || ["VEZA_TOKEN", "VEZA_URL"].contains(&word);
            if !known {
                findings.push(format!("{path}: {word} is read by nobody"));
            }
        }
    }
    none(&findings);
}

#[test]
fn the_protocol_is_told_whole() {
    let protocol = read("docs/PROTOCOL.md");
    let schema: String =
        ["session", "rooms", "chat", "audio"].map(|file| read(&format!("proto/veza/v1/{file}.proto"))).concat();
    let mut findings = Vec::new();
    for code in CloseCode::ALL {
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            cells.len() > 4
                && cells[1] == code.code().to_string()
                && cells[2] == code.websocket().to_string()
                && cells[3] == format!("`{}`", code.label())
        };
        if !protocol.lines().any(row) {
            findings.push(format!(
                "docs/PROTOCOL.md has no row | {} | {} | `{}` |",
                code.code(),
                code.websocket(),
                code.label()
            ));
        }
    }
    let errors = words(&schema, "ERROR_CODE_").into_iter().filter(|word| *word != "ERROR_CODE_UNSPECIFIED");
    let gaps = words(&schema, "GAP_REASON_").into_iter().filter(|word| *word != "GAP_REASON_UNSPECIFIED");
    for word in errors.chain(gaps) {
        if !protocol.contains(&format!("`{word}`")) {
            findings.push(format!("docs/PROTOCOL.md does not tell of `{word}`"));
        }
    }
    for field in oneof_fields(&schema) {
        if !protocol.contains(&format!("`{field}`")) {
            findings.push(format!("docs/PROTOCOL.md does not tell of `{field}`"));
        }
    }
    none(&findings);
}

#[test]
fn the_gateway_is_told_whole() {
    let mut findings = Vec::new();
    let rows = table("docs/GATEWAY.md", "calls");
    for call in scope::CALLS {
        let name = format!("{}.{}", call.service, call.method);
        let scopes: Vec<String> = call.scopes.iter().map(|scope| scope.name().to_owned()).collect();
        match rows.iter().find(|row| ticked(&row[0]).contains(&name)) {
            Some(row) if ticked(&row[1]) == scopes => {}
            Some(_) => findings.push(format!("docs/GATEWAY.md says another scope of {name} than {scopes:?}")),
            None => findings.push(format!("docs/GATEWAY.md does not tell of the call {name}")),
        }
    }
    let told: usize = rows.iter().map(|row| ticked(&row[0]).len()).sum();
    if told != scope::CALLS.len() {
        findings.push("docs/GATEWAY.md tells of calls that there are not".into());
    }
    let reasons: Vec<String> = table("docs/GATEWAY.md", "errors").iter().flat_map(|row| ticked(&row[1])).collect();
    let schema = read("proto/veza/v1/session.proto") + &read("proto/veza/gateway/v1/common.proto");
    let declared = schema.lines().filter_map(|line| {
        let name = line.trim().split(" = ").next()?;
        name.strip_prefix("ERROR_CODE_").or_else(|| name.strip_prefix("REASON_"))
    });
    for reason in declared.filter(|reason| *reason != "UNSPECIFIED") {
        if !reasons.iter().any(|told| told == reason) {
            findings.push(format!("docs/GATEWAY.md does not tell of the reason {reason}"));
        }
    }
    none(&findings);
}

/// The names of all commands, results, events and verdicts.
fn oneof_fields(schema: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    for body in schema.split("oneof ").skip(1).filter_map(|rest| rest.split_once('{')?.1.split('}').next()) {
        fields.extend(
            body.lines().filter_map(|line| line.trim().strip_suffix(';')?.split(" = ").next()?.split(' ').nth(1)),
        );
    }
    assert!(fields.len() > 30, "the schema was not read");
    fields
}
