//! Whether the server serves, as grpc.health.v1 says it: not while it drains, nor while the database is silent.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// How often the database is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A database that takes longer is taken as silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Keeps what is told up to date until `stop`: it serves while the database answers `asked`, and from `draining` on no
/// more.
pub(super) async fn keep(
    reporter: HealthReporter,
    services: Vec<&'static str>,
    asked: impl AsyncFn() -> bool,
    draining: CancellationToken,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = None;
    while !draining.is_cancelled() {
        let looked = async {
            tick.tick().await;
            tokio::time::timeout(ANSWER_WITHIN, asked()).await.unwrap_or(false)
        };
        let Some(Some(serves)) = stop.run_until_cancelled(draining.run_until_cancelled(looked)).await else { break };
        if told != Some(serves) {
            if !serves {
                tracing::warn!("the database does not answer: the gateway says that it does not serve");
            }
            tell(&reporter, &services, serves).await;
            told = Some(serves);
        }
    }
    tell(&reporter, &services, false).await;
}

/// Of the server as a whole, and of these services.
pub(super) async fn tell(reporter: &HealthReporter, services: &[&'static str], serves: bool) {
    let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in services {
        reporter.set_service_status(service, status).await;
    }
    reporter.set_service_status("", status).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Told;
    use tonic_health::pb::health_server::Health;
    use tonic_health::server::HealthService;

    use super::*;

    /// Waits until this is what is told of a service.
    async fn becomes(service: &HealthService, name: &str, wanted: Told) {
        loop {
            let request = tonic::Request::new(HealthCheckRequest { service: name.into() });
            if service.check(request).await.is_ok_and(|answer| answer.get_ref().status() == wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn it_serves_while_the_database_answers_and_the_node_stays() {
        let (reporter, answers) = (HealthReporter::new(), Arc::new(AtomicBool::new(true)));
        let service = HealthService::from_health_reporter(reporter.clone());
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let kept = {
            let answers = Arc::clone(&answers);
            let asked = async move || answers.load(Ordering::SeqCst);
            keep(reporter, vec!["veza.gateway.v1.Rooms"], asked, draining.clone(), stop.clone())
        };
        let story = async {
            for name in ["", "veza.gateway.v1.Rooms"] {
                becomes(&service, name, Told::Serving).await;
                answers.store(false, Ordering::SeqCst);
                becomes(&service, name, Told::NotServing).await;
                answers.store(true, Ordering::SeqCst);
            }
            becomes(&service, "", Told::Serving).await;
            draining.cancel();
            becomes(&service, "", Told::NotServing).await;
        };
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(kept, story) }).await.unwrap();
    }
}
