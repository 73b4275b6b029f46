//! Every metric of the server, declared once: its name, its labels, and its help text.
//!
//! A declaration `counter sessions_opened_total(transport)` makes a function of that name which gives the handle of
//! `veza_sessions_opened_total`. Hot paths keep the handle.

use metrics::{Counter, Gauge, Histogram, Unit};

/// A metric as the exporter will show it; the docs' table and the tests are made from these.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! declare {
    ($($kind:ident $name:ident ($($label:ident),*) $help:literal;)*) => {
        $(
            #[doc = $help]
            pub fn $name($($label: &'static str),*) -> declare!(@type $kind) {
                metrics::$kind!(concat!("veza_", stringify!($name)) $(, stringify!($label) => $label)*)
            }
        )*

        /// Every declared metric.
        pub const ALL: &[Declared] = &[
            $(Declared {
                name: concat!("veza_", stringify!($name)),
                kind: stringify!($kind),
                labels: &[$(stringify!($label)),*],
                help: $help,
            }),*
        ];

        /// Tells the exporter what each metric means. Call after the recorder is installed.
        pub fn describe() {
            $(declare!(@describe $kind, concat!("veza_", stringify!($name)), $help);)*
        }
    };
    (@type counter) => { Counter };
    (@type gauge) => { Gauge };
    (@type histogram) => { Histogram };
    (@describe counter, $name:expr, $help:expr) => { metrics::describe_counter!($name, Unit::Count, $help) };
    (@describe gauge, $name:expr, $help:expr) => { metrics::describe_gauge!($name, $help) };
    (@describe histogram, $name:expr, $help:expr) => { metrics::describe_histogram!($name, Unit::Seconds, $help) };
}

declare! {
    counter links_accepted_total(transport) "Connections whose transport handshake was completed.";
    counter links_refused_total(transport, reason) "Connections refused before a session: full, address, failed_logins, draining, shedding, pressure, origin, path, upgrade, handshake.";
    counter first_packets_total(verdict) "First packets of QUIC connections: accept, retry, refuse, ignore.";
    counter datagrams_received_total(transport) "Datagrams received from clients.";
    counter datagrams_sent_total(transport) "Datagrams handed to the transport.";
    counter datagrams_dropped_total(transport, reason) "Datagrams not sent or not read: full, too_large, malformed, rate.";
    counter frames_received_total(transport, lane) "Frames received from clients.";
    counter frames_sent_total(transport, lane) "Frames handed to the transport.";
    counter bytes_received_total(transport) "Bytes of frames received from clients.";
    counter bytes_sent_total(transport) "Bytes of frames handed to the transport.";
    histogram handshake_seconds(transport) "From the first packet or byte to an accepted link.";

    gauge audio_streams() "Streams that somebody here publishes or listens to.";
    gauge audio_listeners() "Listeners of live audio on this node.";
    counter audio_packets_received_total() "Media packets of publishers.";
    counter audio_packets_refused_total(reason) "Media packets of publishers, and reports of listeners, that were not taken: malformed, foreign (not this session's stream), rate, busy (this node has too much to do).";
    counter audio_packets_sent_total() "Media packets handed to listeners' connections.";
    counter audio_packets_dropped_total(reason) "Media packets for listeners that were not sent: late (waited 200 ms), flushed (the network was congested), impossible (too large for the path).";
    counter audio_quality_changes_total(reason) "Listeners that were given another rung, packet time or redundancy.";
    counter audio_underruns_total() "Times that a listener had nothing to play, as listeners report.";
    gauge audio_made_rungs() "Rungs of live audio that are made here because nobody publishes them and somebody wants them.";
    counter audio_made_refused_total() "Times that a rung was not made because the codec threads have enough to do: the listener gets the nearest published one.";
    counter audio_made_frames_total() "Frames that were made, of all rungs.";
    counter audio_made_frames_dropped_total(reason) "Frames that nothing was made of, or that came to nothing: full and late (the codec threads had too much to do), missed (the stream's shard had).";
    histogram audio_codec_seconds(work) "What a codec thread takes for a frame: decode it, encode it for one rung.";
    histogram audio_forward_seconds() "From a media packet read of its publisher's link to the last listener's connection.";

    gauge icecast_sources() "Source clients that send sound through the Icecast door.";
    counter icecast_answers_total(status) "Requests to the Icecast door that were answered, by status.";
    counter icecast_ended_total(reason) "Source clients that were let in and sent no more: over, gone (the connection ended), slow (nothing for ten seconds), damaged, unplayable, stopped (the stream ended, somebody else publishes it, access ended, or the server stops).";

    counter sessions_opened_total(transport) "Sessions that were welcomed.";
    counter sessions_closed_total(transport, reason) "Welcomed sessions that ended, by close code or by how the link ended.";
    counter sessions_resumed_total(transport) "Sessions welcomed with a resume token that was accepted.";
    gauge sessions(transport) "Sessions that are welcomed and running.";
    counter hello_failed_total(transport, reason) "Links that ended before a welcome.";
    histogram hello_seconds(transport) "From an accepted link to the welcome.";
    counter resume_verdicts_total(verdict) "Room cursors answered: live, recovered, or gap by its reason.";
    counter replayed_messages_total() "Messages replayed to resuming clients.";
    counter errors_sent_total(code) "Commands answered with an error.";
    counter lagging_total() "Rooms whose pushes were dropped for one slow session, to be caught up by cursor.";

    counter published_total(outcome) "Publishes by outcome: stored, duplicate, conflict, refused, unavailable.";
    histogram publish_commit_seconds() "From a publish's arrival at its room to the commit that holds it.";
    histogram publish_fanout_seconds() "From the commit to the last subscriber's mailbox.";
    histogram delivery_queue_seconds() "From the commit to the receiving session's lanes.";
    counter deliveries_total(path) "Messages pushed to clients: stream (replays among them), datagram.";
    counter typing_total() "Typing events passed on.";
    counter user_rate_refused_total() "Publishes refused because their user, over all connections, was too fast.";
    counter evicted_total(sanction) "Sessions put out of a room because the membership ended: kick, ban, left.";
    counter expired_total() "Bites that retention took of rooms.";
    gauge rooms_loaded() "Rooms in memory on this node.";
    gauge subscriptions() "Sessions subscribed to rooms on this node, counted per room.";

    counter commits_total(outcome) "Batches committed by the writer: ok, unavailable, conflict, full, damaged.";
    histogram commit_seconds() "One durable commit, from begin to synced.";
    counter committed_writes_total(kind) "Writes inside committed batches: append, edit, delete, react, pin, mark, expire, join, leave, set_role, moderate, invite, revoke_invite, create_room, open_direct, update_room, audit.";
    gauge commit_queue() "Writes waiting for the writer.";
    counter store_reads_total(kind, outcome) "Reads from the store.";
    histogram store_read_seconds(kind) "One read from the store.";
    histogram store_upkeep_seconds(kind) "What SQLite's writer does between commits: index (words of new messages), fold (the log into the file).";

    counter auth_total(outcome) "Tokens checked: ok, expired, invalid, revoked, not_yet_valid, unknown_key.";
    counter jwks_reads_total(outcome) "Readings of the keys that others publish: ok, failed.";
    counter revocations_total(kind) "Revocations that took effect on this node, also those that others made: token, device, user.";
    counter revoked_sessions_total(kind) "Sessions that a revocation ended on this node: token, device, user.";
    counter devices_seen_total(outcome) "Sightings of devices: stored, failed, or dropped because too many waited to be stored.";
    counter authz_total(call, outcome) "Questions to the platform, by connect, join, publish: allowed, denied, failed, or unasked while it is left alone after failures.";
    counter authz_cached_total(call) "Questions that an earlier answer was good for.";
    histogram authz_seconds(call) "From a question to the platform to its answer, or until it was given up.";
    gauge authz_down() "1 while the platform is left alone because it did not answer.";
    counter gateway_calls_total(service, method, code) "Calls of the platform's backend that were answered, by their gRPC code.";
    histogram gateway_call_seconds(service, method) "From a call's arrival to its answer; of a stream, to its beginning.";
    gauge gateway_connections() "Open connections of the platform's backend.";

    counter events_delivered_total(consumer) "Events handed to the streams of consumers.";
    gauge events_lag(consumer) "Positions between the outbox's end and where a consumer stands; other: consumers past the 64th name.";
    gauge events_lag_seconds(consumer) "How long the oldest event has waited that a consumer has not acknowledged.";
    gauge events_kept() "Events in the outbox, at most: from the first position that is kept to the last.";
    counter sessions_untold_total(kind) "Comings and goings of sessions that no event tells of, because too many waited: connected, disconnected.";
    gauge events_streams() "Consumers whose stream is open on this node.";

    counter webhooks_attempts_total(webhook, outcome) "Deliveries tried: delivered, status (another than 2xx), redirect, gone (410), address (no public one), unreachable, late (no answer in time), unwritable (no JSON).";
    histogram webhooks_attempt_seconds() "One delivery, from looking up its address to the status.";
    counter webhooks_dead_letters_total(webhook) "Events that could not be delivered and were put aside.";
    counter webhooks_dead_letters_dropped_total(webhook) "Dead letters that went because there were too many.";
    counter webhooks_missed_total(webhook) "Times that a webhook was so far behind that events were gone before they were delivered.";
    gauge webhooks_lag(webhook) "Positions between the outbox's end and where a webhook stands; other: webhooks past the 64th.";
    gauge webhooks_lag_seconds(webhook) "How long the oldest event has waited that a webhook has not delivered or put aside.";
    gauge webhooks_held() "Webhooks that this node delivers for.";

    counter certificate_reloads_total(outcome) "Certificates reloaded or renewed: ok, failed.";
    gauge certificate_expires_seconds() "When the current certificate ends, seconds since 1970-01-01 UTC.";
    counter spans_exported_total(outcome) "Spans sent to the collector: ok, failed.";
    gauge build_info(service, version, environment) "Always 1; its labels say what runs.";
    gauge process_resident_bytes() "Resident memory of this process.";
    gauge process_cpu_seconds() "CPU time this process has used.";
    gauge process_open_descriptors() "File descriptors this process holds.";
    gauge memory_limit_bytes() "MEMORY_LIMIT_MB in bytes.";
    gauge draining() "1 while the node drains.";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn names_are_unique_and_helps_are_sentences() {
        for (at, metric) in ALL.iter().enumerate() {
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(ALL[..at].iter().all(|other| other.name != metric.name), "{} is declared twice", metric.name);
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
        }
    }
}
