//! What the server counts of itself, read from its Prometheus page before and after a run.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;
use crate::site::{only_loopback, parse};

const WITHIN: Duration = Duration::from_secs(5);

/// How many took at most so long: upper bounds in seconds, ascending, each count with those below. The last bound is infinite.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Buckets(Vec<(f64, u64)>);

/// The page at `http://host:port/path`.
pub(crate) async fn page(url: &str, allow_remote: bool) -> Result<String, Failure> {
    only_loopback(url, allow_remote).await?;
    let uri = parse(url)?;
    let authority = uri.authority().ok_or_else(|| Failure::setup(format!("{url:?} names no host")))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let asked = async {
        let mut stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
        let request = format!("GET {} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n", uri.path());
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let answer: String =
        tokio::time::timeout(WITHIN, asked).await.unwrap_or_else(|_| Err(late())).map_err(Failure::io(url))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(Failure::setup(format!("{url} does not answer with its metrics"))),
    }
}

/// A counter, of all its labels together. 0 when the page has none of that name.
pub(crate) fn total(page: &str, name: &str) -> u64 {
    let line = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (labels, count) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| count.parse::<u64>().ok())?
    };
    page.lines().filter_map(line).sum()
}

impl Buckets {
    /// Those of a histogram without labels. `None` when the page has none of that name.
    pub(crate) fn of(page: &str, name: &str) -> Option<Self> {
        let line = |line: &str| {
            let (bound, count) = line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.replace("+Inf", "inf").parse().ok()?, count.trim().parse().ok()?))
        };
        let buckets: Vec<_> = page.lines().filter_map(line).collect();
        (!buckets.is_empty()).then_some(Self(buckets))
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let earlier = |bound: f64| before.0.iter().find(|(of, _)| *of == bound).map_or(0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, count.saturating_sub(earlier(*bound)))).collect())
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.last().map_or(0, |(_, count)| *count)
    }

    /// How many of a hundred took at most so long, which is one of the bounds. `None` of nothing.
    pub(crate) fn percent_within(&self, seconds: f64) -> Option<f64> {
        let (_, within) = self.0.iter().find(|(bound, _)| *bound == seconds)?;
        (self.count() > 0).then(|| 100.0 * *within as f64 / self.count() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE a_seconds histogram\na_seconds_bucket{le=\"0.001\"} 3\na_seconds_bucket{le=\"0.002\"} 4\n\
                        a_seconds_bucket{le=\"+Inf\"} 5\na_seconds_sum 1\na_seconds_count 5\na_seconds_more_bucket{le=\"1\"} 9\n";

    #[test]
    fn what_came_between_two_scrapes_is_counted() {
        let before = Buckets::of(PAGE, "a_seconds").unwrap();
        assert_eq!(before.count(), 5);
        let page = PAGE.replace(" 3\n", " 90\n").replace(" 4\n", " 103\n").replace("} 5\n", "} 105\n");
        let between = Buckets::of(&page, "a_seconds").unwrap().since(&before);
        assert_eq!((between.count(), between.percent_within(0.001)), (100, Some(87.0)));
        assert_eq!((between.percent_within(0.002), between.percent_within(0.003)), (Some(99.0), None));
        assert_eq!(before.since(&before).percent_within(0.001), None);
        assert_eq!(Buckets::of(PAGE, "b_seconds"), None);
    }

    #[test]
    fn a_counter_is_the_sum_of_its_labels() {
        let page = "a_total{reason=\"late\"} 3\na_total{reason=\"full\"} 4\na_total_more 9\nb_total 5\n";
        assert_eq!((total(page, "a_total"), total(page, "b_total"), total(page, "c_total")), (7, 5, 0));
    }

    #[tokio::test]
    async fn a_page_that_is_not_there_is_said() {
        let nobody = page("http://127.0.0.1:1/metrics", false).await.unwrap_err();
        assert!(nobody.to_string().contains("http://127.0.0.1:1/metrics"), "{nobody}");
        assert!(
            page("http://192.0.2.1:1/metrics", false).await.unwrap_err().to_string().contains("not on this machine")
        );
    }
}
