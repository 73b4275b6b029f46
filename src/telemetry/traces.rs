//! Spans to a collector: OTLP over HTTP in protobuf, from a bounded queue. A collector that is away costs spans, never
//! time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{BatchConfigBuilder, Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use super::{TelemetryError, metrics};
use crate::config::{Config, Environment};

/// Spans that wait for the collector; more are dropped.
const QUEUE_SPANS_MAX: usize = 4096;
const BATCH_SPANS_MAX: usize = 512;
const BATCH_EVERY: Duration = Duration::from_secs(2);
/// One export, and the flush at the end.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// The spans' way out.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to export to `endpoint` (`http://…/v1/traces`). Needs a runtime around it.
    ///
    /// # Errors
    /// When the address is no URL.
    pub(super) fn start(endpoint: &str, config: &Config) -> Result<Self, TelemetryError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_MAX)
            .build()
            .map_err(|error| TelemetryError::Traces(error.to_string()))?;
        let batch = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(BATCH_EVERY)
            .build();
        let watched = Watched { inner: exporter, failing: AtomicBool::new(false) };
        let processor = BatchSpanProcessor::builder(watched, Tokio).with_batch_config(batch).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource(config))
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .build();
        Ok(Self { provider })
    }

    /// Our own spans from `debug` on, whatever `RUST_LOG` says (at `info` they cost nothing while nothing is traced); the exporter's HTTP client must not trace itself.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("veza"))
            .with_location(false)
            .with_threads(false)
            .with_filter(Targets::new().with_target("veza", LevelFilter::DEBUG))
    }

    /// Exports what is queued, for [`EXPORT_MAX`] at most.
    pub(super) async fn shutdown(self) {
        let flushed = tokio::task::spawn_blocking(move || self.provider.shutdown());
        match tokio::time::timeout(EXPORT_MAX, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::info!(%error, "the last spans were not exported"),
            Ok(Err(_)) | Err(_) => tracing::info!("the last spans were not exported in time"),
        }
    }
}

/// Makes `span` a child of the caller's span, given its `traceparent` (W3C Trace Context). What is no `traceparent`
/// changes nothing. Call it before the span is entered.
pub fn adopt(span: &tracing::Span, traceparent: &str) {
    let carrier = std::collections::HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    // Without a layer that exports there is no context to set, which is as good.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
}

fn resource(config: &Config) -> Resource {
    let environment = match config.environment {
        Environment::Development => "development",
        Environment::Production => "production",
    };
    Resource::builder_empty()
        .with_service_name(config.service_name.clone())
        .with_attribute(KeyValue::new("service.version", config.version.clone()))
        .with_attribute(KeyValue::new("deployment.environment", environment))
        .build()
}

/// Counts what is exported and says once when the collector goes away and comes back.
#[derive(Debug)]
struct Watched<E> {
    inner: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        let failed = result.is_err();
        metrics::spans_exported_total(if failed { "failed" } else { "ok" }).increment(spans);
        match (&result, self.failing.swap(failed, Ordering::Relaxed)) {
            (Err(error), false) => tracing::info!(%error, "the collector takes no spans, they are dropped"),
            (Ok(()), true) => tracing::info!("the collector takes spans again"),
            (Ok(()), false) | (Err(_), true) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::tasks::Tasks;

    fn config() -> Config {
        Config::read(&[("SERVICE_NAME", "veza-under-test"), ("VERSION", "9.8.7")].into()).unwrap().config
    }

    /// A collector that takes one request, answers it with `status` and hands its bytes on.
    async fn collector(tasks: &Tasks, status: &'static str) -> (String, Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let (taken, requests) = channel();
        tasks.spawn("collector", async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !is_whole(&request) {
                assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0, "the request was cut off");
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
            taken.send(request).unwrap();
        });
        (endpoint, requests)
    }

    fn is_whole(request: &[u8]) -> bool {
        let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        request.len() >= end + 4 + length.unwrap_or(0)
    }

    fn contains(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_span_reaches_the_collector_by_the_end() {
        let tasks = Tasks::new();
        let (endpoint, requests) = collector(&tasks, "200 OK").await;
        let traces = Traces::start(&endpoint, &config()).unwrap();
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: "veza::test", "publish", room = "lobby");
            adopt(&span, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            span.in_scope(|| {});
            tracing::info_span!(target: "hyper", "somebody else's").in_scope(|| {});
        });
        traces.shutdown().await;
        let request =
            requests.recv_timeout(Duration::from_secs(5)).expect("the spans are sent before the shutdown ends");
        assert!(request.starts_with(b"POST /v1/traces HTTP/1.1\r\n"));
        assert!(contains(&request, "application/x-protobuf"));
        for text in ["publish", "lobby", "veza-under-test", "9.8.7", "deployment.environment", "development"] {
            assert!(contains(&request, text), "{text} was not exported");
        }
        let parent = [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31];
        assert!(request.windows(8).any(|window| window == parent), "the caller's span is the parent");
        assert!(!contains(&request, "somebody else's"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_caller_that_does_not_sample_is_followed() {
        let tasks = Tasks::new();
        let (endpoint, requests) = collector(&tasks, "200 OK").await;
        let traces = Traces::start(&endpoint, &config()).unwrap();
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, || {
            let unsampled = tracing::info_span!(target: "veza::test", "unsampled");
            adopt(&unsampled, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
            unsampled.in_scope(|| {});
            let own = tracing::info_span!(target: "veza::test", "own root");
            adopt(&own, "nonsense");
            own.in_scope(|| {});
        });
        traces.shutdown().await;
        let request = requests.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(contains(&request, "own root") && !contains(&request, "unsampled"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_collector_that_is_away_or_refuses_costs_no_time() {
        let tasks = Tasks::new();
        let (refusing, _requests) = collector(&tasks, "400 Bad Request").await;
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            format!("http://{}/v1/traces", listener.local_addr().unwrap())
        };
        for endpoint in [refusing, gone] {
            let traces = Traces::start(&endpoint, &config()).unwrap();
            let subscriber = tracing_subscriber::registry().with(traces.layer());
            let began = std::time::Instant::now();
            tracing::subscriber::with_default(subscriber, || {
                for _ in 0..QUEUE_SPANS_MAX * 2 {
                    tracing::info_span!(target: "veza::test", "publish").in_scope(|| {});
                }
            });
            assert!(began.elapsed() < Duration::from_secs(3), "spans wait for nobody: {:?}", began.elapsed());
            traces.shutdown().await;
            assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        }
    }
}
