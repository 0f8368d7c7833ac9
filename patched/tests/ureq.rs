//! ureq, not a line of it changed: 200 requests of 100 ms each, at once, on one thread.

use std::time::{Duration, Instant};

use greenling::{join_all, patch, spawn};

#[test]
fn two_hundred_slow_requests_overlap() {
    patch::all();
    let addr = greenling_patched::slow_http_server(Duration::from_millis(100));
    let start = Instant::now();
    let requests = (0..200).map(|_| {
        spawn(move || {
            let agent = ureq::Agent::new_with_defaults();
            let mut answer = agent.get(format!("http://{addr}/")).call().unwrap();
            answer.body_mut().read_to_string().unwrap()
        })
    });
    for text in join_all(requests) {
        assert_eq!(text.unwrap(), "hello");
    }
    let took = start.elapsed();
    println!("200 requests of 100 ms in {took:?}");
    // One after the other they would take 20 s.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_time_limit_ends_a_request() {
    patch::all();
    let addr = greenling_patched::slow_http_server(Duration::from_secs(60));
    let start = Instant::now();
    let limited = greenling::timeout(Duration::from_millis(50), || {
        // Main alone would block: another coroutine makes it wait in the hub.
        let idle = spawn(|| greenling::sleep(Duration::from_secs(60)));
        let failed = ureq::get(format!("http://{addr}/")).call().is_err();
        drop(idle);
        greenling::sleep(Duration::from_secs(60));
        failed
    });
    assert!(limited.is_err());
    assert!(start.elapsed() < Duration::from_secs(30));
}
