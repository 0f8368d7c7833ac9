//! A polite web crawler in plain blocking code, hundreds of pages at a time on one thread.
//!
//! Run with: cargo run --release -p crawler -- --demo

mod address;
mod crawl;
mod demo;
mod fetch;
mod frontier;
mod graph;
mod html;
mod options;
mod output;
mod page;
mod progress;
mod report;
mod robots;
mod stats;
mod workers;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use url::Url;

use address::{Scope, normalise};
use crawl::Crawl;
use fetch::Fetcher;
use frontier::{Frontier, Limits, Memory};
use options::Options;
use output::Output;
use page::Job;
use progress::Progress;
use robots::Robots;
use stats::Stats;
use workers::Workers;

/// As shells have it for a program that was interrupted.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crawler: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut options: Options) -> io::Result<ExitCode> {
    options.check().map_err(io::Error::other)?;
    let workers = if options.threads { Workers::Threads } else { Workers::Coroutines };
    // Before anything else: from here on, blocking calls let other coroutines run.
    workers.prepare();
    if options.demo {
        prepare_demo(&mut options, workers)?;
    }
    let crawl = Arc::new(begin(options)?);
    watch_signals(crawl.clone())?;
    let progress = (!crawl.options.quiet).then(|| Progress::start(crawl.clone()));
    let work: Arc<dyn Fn() + Send + Sync> = {
        let crawl = crawl.clone();
        Arc::new(move || crawl.work())
    };
    workers.run(crawl.options.concurrency, work)?;
    drop(progress);
    end(&crawl)
}

fn prepare_demo(options: &mut Options, workers: Workers) -> io::Result<()> {
    let url = demo::serve(workers, options.demo_pages)?;
    eprintln!("crawling a site of this program's own at {url}");
    options.urls = vec![Url::parse(&url).map_err(io::Error::other)?];
    // So that the pages which never answer do not take a minute.
    options.timeout = options.timeout.min(Duration::from_secs(2));
    options.retries = options.retries.min(1);
    options.per_host = options.concurrency;
    Ok(())
}

fn begin(options: Options) -> io::Result<Crawl> {
    let limits = Limits {
        max_pages: options.max_pages,
        per_host: options.per_host,
        delay: options.delay,
        max_queries: options.max_queries,
    };
    let seeds: Vec<Url> = options.urls.iter().cloned().filter_map(normalise).collect();
    let (frontier, seeds) = open_frontier(&options, limits, seeds)?;
    let crawl = Crawl {
        scope: Scope::new(&options, &seeds),
        frontier,
        fetcher: Fetcher::new(&options).map_err(io::Error::other)?,
        robots: Robots::default(),
        stats: Stats::new(),
        output: options
            .output
            .as_deref()
            .map(|path| Output::open(path, options.resume))
            .transpose()?,
        graph: options.graph.is_some().then(Mutex::default),
        stopping: AtomicBool::new(false),
        failed: Mutex::default(),
        options,
    };
    if let (Some(graph), Some(path), true) =
        (&crawl.graph, &crawl.options.output, crawl.options.resume)
    {
        let mut graph = graph.lock().unwrap();
        output::pages(path)?.for_each(|page| graph.add(&page));
    }
    let jobs: Vec<Job> = crawl.jobs(seeds.into_iter(), 0, None);
    crawl.frontier.add(jobs)?;
    Ok(crawl)
}

fn open_frontier(
    options: &Options,
    limits: Limits,
    seeds: Vec<Url>,
) -> io::Result<(Box<dyn Frontier>, Vec<Url>)> {
    if let Some(url) = &options.frontier {
        return Ok((open_shared(url, options, limits)?, seeds));
    }
    if !options.resume {
        let state = (!options.demo).then_some(&*options.state);
        if let Some(state) = state.filter(|state| state.exists()) {
            return Err(io::Error::other(format!(
                "{} holds an unfinished crawl: go on with --resume, or remove it, or choose another --state",
                state.display()
            )));
        }
        let names = seeds.iter().map(Url::to_string).collect();
        return Ok((Box::new(Memory::create(limits, state, names)?), seeds));
    }
    let parse = |names: &[String]| -> Vec<Url> {
        names.iter().filter_map(|n| Url::parse(n).ok()).collect()
    };
    let output = options.output.as_deref();
    let opened = Memory::resume(limits, &options.state, output, |names, pages| {
        Crawl::replay(&Scope::new(options, &parse(names)), options, pages)
    });
    let (memory, names) = opened.map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", options.state.display()))
    })?;
    let mut all = parse(&names);
    all.extend(seeds);
    Ok((Box::new(memory), all))
}

#[cfg(feature = "redis")]
fn open_shared(url: &str, options: &Options, limits: Limits) -> io::Result<Box<dyn Frontier>> {
    Ok(Box::new(frontier::Shared::connect(url, &options.name, limits, options.lease())?))
}

#[cfg(not(feature = "redis"))]
fn open_shared(_: &str, _: &Options, _: Limits) -> io::Result<Box<dyn Frontier>> {
    Err(io::Error::other("this crawler was built without the feature `redis`"))
}

/// The first signal asks for a polite end, the second for an end.
fn watch_signals(crawl: Arc<Crawl>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if crawl.stopping.load(Ordering::Relaxed) {
                std::process::exit(128 + signal);
            }
            eprintln!("stopping: what is under way may finish (once more to stop at once)");
            crawl.stop();
        }
    })?;
    Ok(())
}

fn end(crawl: &Crawl) -> io::Result<ExitCode> {
    let mut counted = crawl.stats.get().clone();
    if let Some(output) = &crawl.output {
        report::find_holders(&mut counted.broken, output.path());
    }
    print!("{}", report::report(&counted, crawl.stats.elapsed()));
    if let (Some(graph), Some(path)) = (&crawl.graph, &crawl.options.graph) {
        let left_out = graph.lock().unwrap().write(path)?;
        if left_out > 0 {
            eprintln!(
                "{}: {left_out} pages had no room in the drawing; a .dot has all",
                path.display()
            );
        }
    }
    let failed = crawl.failed.lock().unwrap().take();
    let stopped = crawl.stopping.load(Ordering::Relaxed);
    let kept = crawl.options.frontier.is_none() && !crawl.options.demo;
    let left = crawl.frontier.counts().queued;
    if let Some(error) = failed {
        if kept {
            eprintln!("{}", go_on(&crawl.options.state, left));
        }
        return Err(error);
    }
    if stopped {
        if kept {
            println!("\n{}", go_on(&crawl.options.state, left));
        }
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if kept && left == 0 {
        std::fs::remove_file(&crawl.options.state)?;
    } else if kept {
        println!("\n{}", go_on(&crawl.options.state, left));
    }
    Ok(ExitCode::SUCCESS)
}

fn go_on(state: &Path, left: usize) -> String {
    let state = if state == Path::new("crawl.state") {
        String::new()
    } else {
        format!(" --state {}", state.display())
    };
    format!("{left} pages are left; go on with --resume{state}")
}
