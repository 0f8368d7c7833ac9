//! libcurl, a C library: its easy and its multi interface.

use std::time::{Duration, Instant};

use curl::easy::Easy;
use curl::multi::Multi;
use greenling::{patch, spawn};
use greenling_patched::{deadline, overlapping, slow_http_server};

fn get(url: &str, limit: Duration) -> Result<Vec<u8>, curl::Error> {
    let mut easy = Easy::new();
    easy.url(url)?;
    easy.timeout(limit)?;
    let mut body = Vec::new();
    {
        let mut transfer = easy.transfer();
        transfer.write_function(|data| {
            body.extend_from_slice(data);
            Ok(data.len())
        })?;
        transfer.perform()?;
    }
    Ok(body)
}

#[test]
fn easy_transfers_overlap() {
    let addr = slow_http_server(Duration::from_millis(100));
    let url = format!("http://{addr}/");
    let serial = Duration::from_secs(20);
    let what = "libcurl, easy: requests of 100 ms";
    overlapping(what, 200, serial, move |_| get(&url, Duration::from_secs(60)).unwrap());
}

/// Names are looked up by threads of libcurl's own, which it waits for.
#[test]
fn easy_transfers_to_a_name_overlap() {
    let addr = slow_http_server(Duration::from_millis(100));
    let url = format!("http://localhost:{}/", addr.port());
    let serial = Duration::from_secs(5);
    let what = "libcurl, easy: requests of 100 ms to a name";
    overlapping(what, 50, serial, move |_| get(&url, Duration::from_secs(60)).unwrap());
}

#[test]
fn its_time_limit_is_kept() {
    let addr = slow_http_server(Duration::from_secs(60));
    let url = format!("http://{addr}/");
    overlapping("libcurl, easy: time limit of 300 ms", 30, Duration::from_secs(9), move |_| {
        let start = Instant::now();
        let error = get(&url, Duration::from_millis(300)).unwrap_err();
        (error.is_operation_timedout(), start.elapsed() >= Duration::from_millis(290))
    });
}

#[test]
fn multi_waits_beside_others() {
    let addr = slow_http_server(Duration::from_millis(100));
    let url = format!("http://{addr}/");
    let serial = Duration::from_secs(2);
    overlapping("libcurl, multi: ten requests of 100 ms each", 20, serial, move |_| {
        let multi = Multi::new();
        let handles: Vec<_> = (0..10)
            .map(|_| {
                let mut easy = Easy::new();
                easy.url(&url).unwrap();
                easy.write_function(|data| Ok(data.len())).unwrap();
                multi.add(easy).unwrap()
            })
            .collect();
        while multi.perform().unwrap() > 0 {
            multi.wait(&mut [], Duration::from_secs(10)).unwrap();
        }
        let mut done = 0;
        multi.messages(|message| done += u32::from(message.result().unwrap().is_ok()));
        drop(handles);
        done
    });
}

/// The kill reaches a callback, with C on the stack above it: the crate carries it over that.
#[test]
fn a_kill_in_a_callback_is_carried_over_c() {
    deadline(60, || {
        patch::all();
        let addr = slow_http_server(Duration::from_millis(1));
        let coroutine = spawn(move || {
            let mut easy = Easy::new();
            easy.url(&format!("http://{addr}/")).unwrap();
            easy.write_function(|data| {
                greenling::sleep(Duration::from_secs(60));
                Ok(data.len())
            })
            .unwrap();
            easy.perform().is_err()
        });
        greenling::sleep(Duration::from_millis(200));
        let start = Instant::now();
        coroutine.kill();
        let ended = coroutine.join();
        assert!(ended.is_err(), "{ended:?}");
        assert!(start.elapsed() < Duration::from_secs(20));
    });
}
