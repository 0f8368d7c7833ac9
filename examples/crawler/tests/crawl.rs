//! The crawler keeps what it promises, against sites that count what is asked of them.

mod common;

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Folder, Site, answer, crawler, finish, html, not_found, pages, run, signal, succeeded,
    tree_page,
};

/// Both kinds of workers run the same code and must do the same.
const KINDS: [&[&str]; 2] = [&[], &["--threads"]];

#[test]
fn the_demonstration_finds_all_that_is_wrong() {
    for kind in KINDS {
        let folder = Folder::new("demo");
        let args = [&["--demo", "--output", "out.jsonl", "--graph", "out.svg"], kind].concat();
        let text = succeeded(&run(&folder, &args));
        let pages = pages(&folder.0.join("out.jsonl"));
        for n in 1..=300 {
            assert_eq!(pages[&format!("/page/{n}")]["status"], 200, "{kind:?}");
        }
        for (path, error) in [
            ("/hang", "timeout"),
            ("/reset", "connection lost"),
            ("/malformed", "malformed answer"),
            ("/bomb", "too large"),
            ("/big", "too large"),
            ("/chain/10", "redirects"),
        ] {
            assert_eq!(pages[path]["error"], error, "{kind:?} {path}: {:?}", pages[path]);
        }
        assert_eq!(pages["/missing"]["status"], 404);
        assert_eq!(pages["/error"]["status"], 500);
        assert_eq!(
            (&pages["/flaky"]["status"], &pages["/flaky"]["attempts"]),
            (&200.into(), &2.into())
        );
        assert_eq!(pages["/charset"]["title"], "caf\u{fffd}");
        assert_eq!(pages["/image.png"]["bytes"], 0, "not asked for");
        assert_eq!(pages["/private/secret"]["skipped"], "robots.txt");
        assert!(pages.contains_key("/only-in-the-site-map") && pages.contains_key("/loop/b"));
        assert!(
            pages.contains_key("/calendar?month=30") && !pages.contains_key("/calendar?month=40")
        );
        assert!(!pages.keys().any(|path| path.contains("circle/circle/circle/circle")));
        assert!(text.contains("on http://127.0.0.1") && text.contains("and on 4 other pages"));
        assert!(std::fs::read_to_string(folder.0.join("out.svg")).unwrap().ends_with("</svg>\n"));
        assert!(!folder.0.join("crawl.state").exists());
    }
}

/// A site of 400 pages that take a little while.
fn slow_tree() -> Site {
    Site::serve(|target| {
        if target == "/robots.txt" {
            return not_found();
        }
        thread::sleep(Duration::from_millis(10));
        tree_page(target, 400, 4)
    })
}

#[test]
fn after_ctrl_c_nothing_is_lost_or_fetched_twice() {
    for kind in KINDS {
        for name in ["-INT", "-TERM"] {
            let site = slow_tree();
            let folder = Folder::new("resume");
            let args =
                [&["--concurrency", "8", "--output", "out.jsonl", "--graph", "out.dot"], kind]
                    .concat();
            let child = crawler(&folder, &[&[&*site.url], &*args].concat()).spawn().unwrap();
            while site.requests() < 60 {
                thread::sleep(Duration::from_millis(2));
            }
            signal(&child, name);
            let output = finish(child, Duration::from_secs(30));
            assert_eq!(output.status.code(), Some(130));
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("go on with --resume"), "{text}");
            let before = pages(&folder.0.join("out.jsonl")).len();
            assert!((60..300).contains(&before), "{before}");
            succeeded(&run(&folder, &[&["--resume"], &*args].concat()));
            assert_eq!(pages(&folder.0.join("out.jsonl")).len(), 400);
            assert!(site.hits().iter().all(|(path, n)| *n == 1 || path == "/robots.txt"));
            let graph = std::fs::read_to_string(folder.0.join("out.dot")).unwrap();
            assert_eq!(
                graph.matches(" -> ").count(),
                400 + 399,
                "each page links up, and has a parent"
            );
        }
    }
}

#[test]
fn after_a_crash_only_what_was_under_way_is_fetched_again() {
    let site = slow_tree();
    let folder = Folder::new("crash");
    let args = [&*site.url, "--concurrency", "8", "--output", "out.jsonl"];
    let mut child = crawler(&folder, &args).spawn().unwrap();
    while site.requests() < 60 {
        thread::sleep(Duration::from_millis(2));
    }
    signal(&child, "-KILL");
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    // Without --resume, what is there is not overwritten.
    let refused = run(&folder, &args);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--resume"));
    succeeded(&run(&folder, &["--resume", "--concurrency", "8", "--output", "out.jsonl"]));
    assert_eq!(pages(&folder.0.join("out.jsonl")).len(), 400);
    let twice = site.hits().iter().filter(|(path, n)| **n > 1 && *path != "/robots.txt").count();
    assert!(twice <= 8, "{twice} were fetched twice");
}

#[test]
fn a_full_disk_ends_the_crawl_and_loses_nothing() {
    let site = slow_tree();
    let folder = Folder::new("disk");
    let output = run(&folder, &[&site.url, "--output", "/dev/full", "--concurrency", "4"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("No space left") && text.contains("--resume"), "{text}");
    succeeded(&run(&folder, &["--resume", "--output", "out.jsonl"]));
    // The pages that could not be written down are fetched again.
    assert_eq!(pages(&folder.0.join("out.jsonl")).len(), 400);
}

#[test]
fn hosts_are_treated_as_they_ask() {
    let site = Site::serve(|target| {
        match target {
        "/robots.txt" => answer(
            "200 OK",
            "Content-Type: text/plain\r\n",
            b"User-agent: greenling-crawler\nDisallow: /no\nCrawl-delay: 0.2\n\nUser-agent: *\nDisallow: /\n",
        ),
        "/" => html("<a href=a><a href=b><a href=no/x><a href=c><a rel=nofollow href=d>"),
        "/c" => html("<meta name=robots content=nofollow><a href=e>"),
        _ => html(""),
    }
    });
    let folder = Folder::new("robots");
    let start = Instant::now();
    succeeded(&run(&folder, &[&site.url, "--output", "out.jsonl"]));
    assert!(start.elapsed() >= Duration::from_millis(800), "the delay was not kept");
    let hits = site.hits();
    let asked: Vec<&str> = hits.keys().map(|path| &**path).collect();
    assert_eq!(asked, ["/", "/a", "/b", "/c", "/robots.txt"]);

    let other = run(&folder, &[&site.url, "--user-agent", "someone/1.0", "--output", "none.jsonl"]);
    assert!(succeeded(&other).contains("robots.txt"));
    assert_eq!(site.hits().len(), asked.len());
}

#[test]
fn a_host_without_robots_txt_is_free_and_one_that_fails_is_not() {
    for (status, fetched) in [("404 Not Found", 1), ("500 Oops", 0)] {
        let site = Site::serve(move |target| match target {
            "/robots.txt" => answer(status, "", b""),
            _ => html(""),
        });
        succeeded(&run(&Folder::new("free"), &[&site.url]));
        assert_eq!(site.requests(), fetched, "{status}");
    }
}

#[test]
fn other_hosts_are_left_alone_unless_named() {
    let other = Site::serve(|_| html("<title>other</title>"));
    let link = other.url.clone();
    let site = Site::serve(move |_| html(&format!("<a href='{link}'>there</a>")));
    let folder = Folder::new("hosts");
    succeeded(&run(&folder, &[&site.url]));
    assert_eq!(other.requests(), 0);
    let name = other.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    succeeded(&run(&folder, &[&site.url, "--host", &name]));
    assert_eq!(other.requests(), 1);
}

#[test]
fn limits_hold() {
    let site = Site::serve(|target| tree_page(target, 1_000_000, 3));
    let folder = Folder::new("limits");
    succeeded(&run(
        &folder,
        &[&site.url, "--max-pages", "50", "--no-robots", "--output", "a.jsonl"],
    ));
    assert_eq!((site.requests(), pages(&folder.0.join("a.jsonl")).len()), (50, 50));
    // What was found is kept.
    succeeded(&run(&folder, &["--resume", "--max-pages", "60", "--no-robots"]));
    assert_eq!(site.requests(), 60);
    std::fs::remove_file(folder.0.join("crawl.state")).unwrap();
    succeeded(&run(
        &folder,
        &[&site.url, "--max-depth", "3", "--no-robots", "--output", "b.jsonl"],
    ));
    assert_eq!(pages(&folder.0.join("b.jsonl")).len(), 1 + 3 + 9 + 27);
}

#[test]
fn as_many_pages_at_a_time_as_asked_for_and_no_more() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let site = Site::serve(|target| {
        MOST.fetch_max(NOW.fetch_add(1, SeqCst) + 1, SeqCst);
        thread::sleep(Duration::from_millis(20));
        NOW.fetch_sub(1, SeqCst);
        tree_page(target, 300, 20)
    });
    succeeded(&run(&Folder::new("most"), &[&site.url, "--concurrency", "64", "--per-host", "10"]));
    assert_eq!(MOST.load(SeqCst), 10);
}

#[test]
fn odd_requests_are_refused_with_a_word() {
    let folder = Folder::new("odd");
    for (args, word) in [
        (&["ftp://example.com/"] as &[&str], "not an address of the web"),
        (&["http://127.0.0.1:1/", "--concurrency", "0"], "at least one"),
        (&["http://127.0.0.1:1/", "--graph", "x.png"], ".dot or an .svg"),
        (&["--resume", "--state", "none"], "none: No such file"),
        (&["http://127.0.0.1:1/", "--frontier", "redis://127.0.0.1:1/"], "refused"),
        (&["http://127.0.0.1:1/", "--output", "no/such/folder"], "No such file"),
    ] {
        let output = run(&folder, args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(word), "{args:?}: {text}");
        let _ = std::fs::remove_file(folder.0.join("crawl.state"));
    }
    // A site that is not there is not an error of the crawler.
    let text = succeeded(&run(&folder, &["http://127.0.0.1:1/", "--retries", "0", "--no-robots"]));
    assert!(text.contains("connect"), "{text}");
    let text = succeeded(&run(
        &folder,
        &["http://no-such-host.invalid/", "--retries", "0", "--no-robots"],
    ));
    assert!(text.contains("no such host"), "{text}");
}

#[test]
fn progress_goes_to_the_terminal_and_results_to_the_output() {
    let site = Site::serve(|target| {
        thread::sleep(Duration::from_millis(60));
        tree_page(target, 120, 5)
    });
    let folder = Folder::new("progress");
    let mut command = crawler(&folder, &[&site.url, "--concurrency", "1"]);
    command.stdout(Stdio::piped());
    let output = finish(command.spawn().unwrap(), Duration::from_secs(60));
    assert!(succeeded(&output).contains("120 pages"));
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(progress.contains("queued") && progress.contains("slowest: 127.0.0.1"), "{progress}");
    std::io::stdout().flush().unwrap();
}

#[test]
fn the_frontier_may_hold_many_slow_pages_at_once() {
    // Ideal: 600 pages of 100 ms, 200 at a time, take 0.3 s. A busy machine gets twenty times that; one page
    // after the other would take a minute.
    let site = Site::serve(|target| {
        if target != "/" {
            thread::sleep(Duration::from_millis(100));
        }
        tree_page(target, 600, 600)
    });
    let args = [&site.url, "--concurrency", "200", "--per-host", "200", "--no-robots"];
    let start = Instant::now();
    succeeded(&run(&Folder::new("many"), &args));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(site.requests(), 600);
}
