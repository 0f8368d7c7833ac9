//! Several crawlers, one frontier: in a real Redis server.

mod common;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Folder, Site, crawler, finish, not_found, pages, run, signal, succeeded, tree_page};

const PAGES: usize = 600;

struct Redis {
    child: Child,
    port: u16,
    folder: Folder,
}

impl Redis {
    /// `None`, with a word about it, where there is no server to be had.
    fn start(name: &str) -> Option<Redis> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = Folder::new(name);
        match Redis::launch(port, &folder) {
            Some(child) => Some(Redis { child, port, folder }),
            None => {
                println!("skipped: there is no redis-server");
                None
            }
        }
    }

    fn launch(port: u16, folder: &Folder) -> Option<Child> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        // What it has answered is on the disk, so that it may come back.
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(&folder.0);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "redis-server does not begin to listen");
            thread::sleep(Duration::from_millis(10));
        }
        Some(child)
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn stop(&mut self) {
        signal(&self.child, "-KILL");
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = Redis::launch(self.port, &self.folder).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn site() -> Site {
    Site::serve(|target| {
        if target == "/robots.txt" {
            return not_found();
        }
        thread::sleep(Duration::from_millis(20));
        tree_page(target, PAGES, 4)
    })
}

fn hits(site: &Site) -> BTreeMap<String, u32> {
    site.hits().into_iter().filter(|(path, _)| path != "/robots.txt").collect()
}

#[test]
fn three_crawlers_of_which_one_is_killed_lose_nothing() {
    let Some(redis) = Redis::start("redis-three") else { return };
    let site = site();
    let url = redis.url();
    let start = |output: &str| {
        let args = [
            &*site.url,
            "--frontier",
            &url,
            "--lease",
            "2",
            "--concurrency",
            "8",
            "--per-host",
            "24",
            "--output",
            output,
        ];
        crawler(&redis.folder, &args).spawn().unwrap()
    };
    let (one, two, mut three) = (start("1.jsonl"), start("2.jsonl"), start("3.jsonl"));
    while site.requests() < 150 {
        thread::sleep(Duration::from_millis(2));
    }
    three.kill().unwrap();
    three.wait().unwrap();
    for child in [one, two] {
        succeeded(&finish(child, Duration::from_secs(90)));
    }
    let hits = hits(&site);
    assert_eq!(hits.len(), PAGES, "nothing is lost");
    let twice: u32 = hits.values().map(|n| n - 1).sum();
    assert!(twice <= 8, "{twice} were fetched twice: more than the killed one had under way");
    let shares =
        ["1.jsonl", "2.jsonl", "3.jsonl"].map(|name| pages(&redis.folder.0.join(name)).len());
    assert!(shares.iter().all(|n| *n > 0), "all of them worked: {shares:?}");
    assert!(shares.iter().sum::<usize>() >= PAGES - 8, "{shares:?}");
    // The crawl is over: whoever comes late has nothing to do.
    succeeded(&run(&redis.folder, &[&site.url, "--frontier", &redis.url(), "--output", "4.jsonl"]));
    assert_eq!(pages(&redis.folder.0.join("4.jsonl")).len(), 0);
}

#[test]
fn a_server_that_goes_away_and_comes_back_costs_time_only() {
    let Some(mut redis) = Redis::start("redis-away") else { return };
    let site = site();
    let url = redis.url();
    let args = [&*site.url, "--frontier", &url, "--concurrency", "8", "--output", "out.jsonl"];
    let child = crawler(&redis.folder, &args).spawn().unwrap();
    while site.requests() < 150 {
        thread::sleep(Duration::from_millis(2));
    }
    redis.stop();
    thread::sleep(Duration::from_millis(700));
    redis.start_again();
    succeeded(&finish(child, Duration::from_secs(90)));
    assert_eq!(pages(&redis.folder.0.join("out.jsonl")).len(), PAGES);
    assert!(hits(&site).values().all(|n| *n == 1));
}

#[test]
fn a_polite_end_leaves_the_rest_to_the_others() {
    let Some(redis) = Redis::start("redis-polite") else { return };
    let site = site();
    let url = redis.url();
    let args = |output| {
        [
            &*site.url,
            "--frontier",
            &url,
            "--name",
            "polite",
            "--max-pages",
            "400",
            "--output",
            output,
        ]
    };
    let child = crawler(&redis.folder, &args("1.jsonl")).spawn().unwrap();
    while site.requests() < 100 {
        thread::sleep(Duration::from_millis(2));
    }
    signal(&child, "-INT");
    assert_eq!(finish(child, Duration::from_secs(30)).status.code(), Some(130));
    succeeded(&run(&redis.folder, &args("2.jsonl")));
    assert_eq!(hits(&site).len(), 400);
    assert!(hits(&site).values().all(|n| *n == 1));
}
