//! What a person may ask for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use url::Url;

/// A polite web crawler in plain blocking code: hundreds of pages at a time, on one thread.
///
/// It stays on the hosts of the given addresses, obeys robots.txt, and reports what is broken. Ctrl-C stops it
/// politely; `--resume` goes on.
#[derive(Clone, Debug, Parser)]
#[command(name = "crawler", version)]
pub(crate) struct Options {
    /// Where to begin
    #[arg(value_name = "URL", required_unless_present_any = ["demo", "resume"])]
    pub(crate) urls: Vec<Url>,

    /// Crawl a small site that this program serves to itself, with slow pages, loops, errors and traps
    #[arg(long)]
    pub(crate) demo: bool,

    /// Pages of the demonstration site
    #[arg(long, value_name = "N", default_value_t = 300, requires = "demo")]
    pub(crate) demo_pages: usize,

    // ---- how far ----
    /// Fetch at most so many pages
    #[arg(long, value_name = "N")]
    pub(crate) max_pages: Option<u64>,

    /// Follow at most so many links in a row
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) max_depth: u32,

    /// Crawl this host, too (HOST or HOST:PORT); may be repeated
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,

    /// Fetch at most so many addresses that differ in their query only (a trap otherwise)
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(crate) max_queries: u32,

    /// Read the bodies of these media types, by beginning
    #[arg(
        long,
        value_name = "TYPE,…",
        value_delimiter = ',',
        default_value = "text/html,application/xhtml+xml"
    )]
    pub(crate) types: Vec<String>,

    /// Look at images, scripts and style sheets, too, to find broken ones
    #[arg(long)]
    pub(crate) assets: bool,

    /// Read the site maps that robots.txt names
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) sitemap: bool,

    /// Fetch https:// only: plain links of the crawled hosts are changed to it
    #[arg(long)]
    pub(crate) https: bool,

    /// Trust the certificates in this PEM file instead of the well-known ones
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    // ---- how fast ----
    /// Pages at a time, in all
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) concurrency: usize,

    /// Pages at a time from one host
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) per_host: usize,

    /// Seconds between two requests to one host; robots.txt may ask for more
    #[arg(long, value_name = "S", default_value = "0", value_parser = seconds)]
    pub(crate) delay: Duration,

    /// The longest crawl delay of a robots.txt that is obeyed to the full, in seconds
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    pub(crate) max_delay: Duration,

    /// Seconds for a page, from the connection to its last byte
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Seconds for a connection
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    pub(crate) connect_timeout: Duration,

    /// Seconds of silence in the middle of an answer
    #[arg(long, value_name = "S", default_value = "15", value_parser = seconds)]
    pub(crate) read_timeout: Duration,

    /// How often to try again what may be better next time
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) retries: u32,

    /// The largest page, in bytes after decompression
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    pub(crate) max_size: u64,

    // ---- manners ----
    /// The name to give to servers
    #[arg(long, value_name = "NAME", default_value = concat!("greenling-crawler/", env!("CARGO_PKG_VERSION")))]
    pub(crate) user_agent: String,

    /// Do not ask for robots.txt: for sites of one's own
    #[arg(long)]
    pub(crate) no_robots: bool,

    // ---- results ----
    /// Write a line of JSON for each page
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) output: Option<PathBuf>,

    /// Draw the links: FILE.dot for Graphviz, FILE.svg for a browser
    #[arg(long, value_name = "FILE")]
    pub(crate) graph: Option<PathBuf>,

    /// Keep the frontier in this file, for --resume
    #[arg(long, value_name = "FILE", default_value = "crawl.state")]
    pub(crate) state: PathBuf,

    /// Go on with the crawl of the state file
    #[arg(long)]
    pub(crate) resume: bool,

    /// Show no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,

    // ---- several crawlers ----
    /// Share the frontier with other crawlers by Redis
    #[arg(long, value_name = "redis://…", conflicts_with = "resume")]
    pub(crate) frontier: Option<String>,

    /// The name of the shared crawl
    #[arg(long, value_name = "NAME", default_value = "crawl", requires = "frontier")]
    pub(crate) name: String,

    /// Seconds after which a page is given to another crawler if nothing is heard of it; by default
    /// longer than all its retries can take
    #[arg(long, value_name = "S", value_parser = seconds, requires = "frontier")]
    pub(crate) lease: Option<Duration>,

    /// Use a thread for each page at a time instead of a coroutine, for comparison
    #[arg(long)]
    pub(crate) threads: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| format!("'{text}' is no number of seconds"))?;
    Duration::try_from_secs_f64(value).map_err(|error| error.to_string())
}

impl Options {
    /// What makes no sense, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.concurrency == 0 || self.per_host == 0 {
            return Err("a crawl needs at least one page at a time".to_owned());
        }
        for url in &self.urls {
            if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                return Err(format!("{url} is not an address of the web"));
            }
        }
        if !cfg!(feature = "https") {
            let tls = self.https || self.urls.iter().any(|url| url.scheme() == "https");
            if tls {
                return Err("this crawler was built without the feature `https`".to_owned());
            }
        }
        match &self.graph {
            Some(path)
                if !matches!(path.extension().and_then(|e| e.to_str()), Some("dot" | "svg")) =>
            {
                Err(format!("{}: a graph is a .dot or an .svg file", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// How long a page may take with all its retries.
    #[cfg(feature = "redis")]
    pub(crate) fn lease(&self) -> Duration {
        let attempts = self.retries + 1;
        self.lease.unwrap_or(self.timeout * attempts + Duration::from_secs(10) * attempts)
    }
}
