use std::sync::Arc;
use std::thread;

use url::Url;

use super::*;

const LIMITS: Limits =
    Limits { max_pages: None, per_host: 2, delay: Duration::ZERO, max_queries: 3 };

fn job(url: &str) -> Job {
    Job { url: Url::parse(url).unwrap(), depth: 0, redirects: 0, from: None }
}

fn frontier(limits: Limits) -> Memory {
    Memory::create(limits, None, Vec::new()).unwrap()
}

fn next(frontier: &Memory) -> Option<String> {
    frontier.next().unwrap().map(|job| job.url.to_string())
}

#[test]
fn each_address_is_handed_out_once_in_order() {
    let frontier = frontier(LIMITS);
    frontier.add(["http://a/1", "http://a/2", "http://a/1"].map(job).to_vec()).unwrap();
    assert_eq!(next(&frontier).as_deref(), Some("http://a/1"));
    frontier
        .done(&job("http://a/1"), true, ["http://a/2", "http://a/1"].map(job).to_vec())
        .unwrap();
    assert_eq!(next(&frontier).as_deref(), Some("http://a/2"));
    frontier.done(&job("http://a/2"), true, Vec::new()).unwrap();
    assert_eq!(next(&frontier), None);
}

#[test]
fn a_busy_host_does_not_hold_up_the_others() {
    let frontier = frontier(LIMITS);
    frontier
        .add(["http://a/1", "http://a/2", "http://a/3", "http://b/1"].map(job).to_vec())
        .unwrap();
    let handed: Vec<_> = (0..3).map(|_| next(&frontier).unwrap()).collect();
    assert_eq!(handed, ["http://a/1", "http://b/1", "http://a/2"]);
}

#[test]
fn queries_without_end_end() {
    let frontier = frontier(LIMITS);
    let many = (0..10).map(|n| job(&format!("http://a/c?n={n}"))).collect();
    frontier.add(many).unwrap();
    assert_eq!(frontier.counts().queued, 3);
}

#[test]
fn pages_that_were_not_fetched_do_not_count() {
    let frontier = frontier(Limits { max_pages: Some(1), ..LIMITS });
    frontier.add(["http://a/1", "http://a/2", "http://a/3"].map(job).to_vec()).unwrap();
    assert!(next(&frontier).is_some());
    frontier.done(&job("http://a/1"), false, Vec::new()).unwrap();
    assert!(next(&frontier).is_some());
    frontier.done(&job("http://a/2"), true, Vec::new()).unwrap();
    assert_eq!(next(&frontier), None);
}

#[test]
fn a_delay_is_kept() {
    let frontier = frontier(Limits { delay: Duration::from_millis(30), ..LIMITS });
    frontier.add(["http://a/1", "http://a/2", "http://a/3"].map(job).to_vec()).unwrap();
    let start = Instant::now();
    for _ in 0..3 {
        let job = frontier.next().unwrap().unwrap();
        frontier.done(&job, true, Vec::new()).unwrap();
    }
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[test]
fn many_workers_finish_and_miss_nothing() {
    for round in 0..50 {
        let frontier = Arc::new(frontier(Limits { per_host: 3, ..LIMITS }));
        frontier.add(vec![job("http://a/1")]).unwrap();
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let frontier = frontier.clone();
                thread::spawn(move || {
                    let mut done = 0;
                    while let Some(job) = frontier.next().unwrap() {
                        let n: u32 = job.url.path()[1..].parse().unwrap();
                        let children = [2 * n, 2 * n + 1].into_iter().filter(|n| *n < 256);
                        let found =
                            children.map(|n| self::job(&format!("http://{}/{n}", n % 5))).collect();
                        frontier.done(&job, true, found).unwrap();
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let done: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(done, 255, "round {round}");
    }
}

#[test]
fn stop_lets_everybody_go() {
    let frontier = Arc::new(frontier(LIMITS));
    frontier.add(vec![job("http://a/1")]).unwrap();
    assert!(next(&frontier).is_some());
    let waiting = thread::spawn({
        let frontier = frontier.clone();
        move || next(&frontier)
    });
    thread::sleep(Duration::from_millis(20));
    frontier.stop();
    assert_eq!(waiting.join().unwrap(), None);
}

#[test]
fn a_journal_goes_on_where_it_ended() {
    use std::io::Write;
    let folder = std::env::temp_dir().join(format!("crawler-journal-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (state, output) = (folder.join("state"), folder.join("out.jsonl"));
    {
        let frontier = Memory::create(LIMITS, Some(&state), vec!["http://a/1".into()]).unwrap();
        frontier.add(["http://a/1", "http://a/2"].map(job).to_vec()).unwrap();
        let first = frontier.next().unwrap().unwrap();
        frontier.done(&first, true, ["http://a/3", "http://a/2"].map(job).to_vec()).unwrap();
        assert!(next(&frontier).is_some()); // in flight when the crawl ends
    }
    // The machine fails in the middle of a line; and a page was written out, and not noted as done.
    let mut file = std::fs::OpenOptions::new().append(true).open(&state).unwrap();
    file.write_all(b"{\"done\":\"http://a/2\",\"a").unwrap();
    let page = Page { url: "http://a/3".into(), ..Page::default() };
    std::fs::write(&output, serde_json::to_string(&page).unwrap() + "\n").unwrap();

    let replay = |seeds: &[String], pages: Vec<Page>| {
        assert_eq!(seeds, ["http://a/1"]);
        assert_eq!(pages.len(), 1);
        vec![(job("http://a/3"), vec![job("http://a/4")])]
    };
    let (frontier, _) = Memory::resume(LIMITS, &state, Some(&output), replay).unwrap();
    assert_eq!(frontier.counts(), Counts { queued: 2, in_flight: 0, seen: 4 });
    frontier.add(vec![job("http://a/1")]).unwrap();
    assert_eq!(next(&frontier).as_deref(), Some("http://a/2"));
    assert_eq!(next(&frontier).as_deref(), Some("http://a/4"));
    drop(frontier);
    let (frontier, _) = Memory::resume(LIMITS, &state, None, |_, _| Vec::new()).unwrap();
    assert_eq!(frontier.counts().queued, 2);

    std::fs::write(&state, "nonsense").unwrap();
    let error = Memory::resume(LIMITS, &state, None, |_, _| Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    std::fs::remove_dir_all(&folder).unwrap();
}
