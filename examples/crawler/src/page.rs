//! What is to be fetched, and what came of it.

use serde::{Deserialize, Serialize};
use url::Url;

/// A page to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) url: Url,
    /// How many links lie between it and the beginning.
    pub(crate) depth: u32,
    /// How many redirects in a row have led here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) redirects: u32,
    /// The page that holds the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Job {
    /// The host whose patience counts: name and port.
    pub(crate) fn host(&self) -> String {
        host_of(&self.url)
    }
}

/// Name and port.
pub(crate) fn host_of(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or(""), url.port_or_known_default().unwrap_or(0))
}

/// A line of the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) url: String,
    pub(crate) depth: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The status of the answer, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// Why there was none, or why it could not be used: `timeout`, `connect`, `too large`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// The error at length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// Why it was not fetched at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) skipped: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    /// Bytes of the body after decompression, as far as it was read.
    pub(crate) bytes: u64,
    /// Milliseconds of the last attempt.
    pub(crate) ms: u64,
    pub(crate) attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redirect: Option<String>,
    /// The links of the page, normalised, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<String>,
}

impl Page {
    /// Whether whoever follows a link to it is disappointed.
    pub(crate) fn is_broken(&self) -> bool {
        self.error.is_some() || self.status.is_some_and(|status| status >= 400)
    }
}
