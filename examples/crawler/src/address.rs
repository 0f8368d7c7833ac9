//! Which addresses are the same, and which are ours.

use std::collections::HashSet;

use url::Url;

use crate::options::Options;
use crate::page::host_of;

/// The longest address that is followed.
const LONGEST: usize = 2000;

/// One spelling for each address: no fragment, no user, no empty query, escapes in one form.
///
/// The rest (case of scheme and host, default ports, dot segments) the parser has done already. `None` for what
/// is not on the web.
pub(crate) fn normalise(mut url: Url) -> Option<Url> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query() == Some("") {
        url.set_query(None);
    }
    let path = one_form(url.path());
    if path != url.path() {
        url.set_path(&path);
    }
    if let Some(query) = url.query().map(one_form) {
        if Some(&*query) != url.query() {
            url.set_query(Some(&query));
        }
    }
    (url.as_str().len() <= LONGEST).then_some(url)
}

/// RFC 3986, 6.2.2: what need not be escaped is not, and the digits of an escape are in upper case.
fn one_form(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut result = String::with_capacity(text.len());
    let mut rest = 0;
    while let Some(at) = text[rest..].find('%').map(|at| rest + at) {
        result.push_str(&text[rest..at]);
        let code = bytes.get(at + 1..at + 3).and_then(|hex| {
            let hex = std::str::from_utf8(hex).ok()?;
            u8::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+'))
        });
        match code {
            Some(code) if code.is_ascii_alphanumeric() || b"-_~".contains(&code) => {
                result.push(char::from(code));
                rest = at + 3;
            }
            Some(code) => {
                result.push_str(&format!("%{code:02X}"));
                rest = at + 3;
            }
            None => {
                result.push('%');
                rest = at + 1;
            }
        }
    }
    result.push_str(&text[rest..]);
    result
}

/// Which addresses belong to the crawl.
#[derive(Debug)]
pub(crate) struct Scope {
    hosts: HashSet<String>,
    /// Hosts that were given without a port.
    names: HashSet<String>,
    https: bool,
}

impl Scope {
    pub(crate) fn new(options: &Options, seeds: &[Url]) -> Scope {
        let (hosts, names) =
            options.hosts.iter().map(|host| host.to_lowercase()).partition(|host| has_port(host));
        let mut scope = Scope { hosts, names, https: options.https };
        for seed in seeds {
            let seed = scope.upgrade(seed.clone());
            scope.hosts.insert(host_of(&seed));
        }
        scope
    }

    fn upgrade(&self, mut url: Url) -> Url {
        if self.https && url.scheme() == "http" {
            let _ = url.set_scheme("https");
        }
        url
    }

    /// The address to fetch for a link, if it is to be followed.
    pub(crate) fn admit(&self, url: &Url) -> Option<Url> {
        let url = self.upgrade(url.clone());
        let known = self.hosts.contains(&host_of(&url))
            || url.host_str().is_some_and(|name| self.names.contains(name));
        (known && !repeats(url.path())).then_some(url)
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// Whether a path goes round in circles, as relative links to a page that is served everywhere make it:
/// /a/b/a/b/a/b/…
fn repeats(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    (1..=3).any(|length| {
        parts.len() >= 4 * length
            && parts
                .windows(4 * length)
                .any(|window| window.chunks(length).all(|chunk| chunk == &window[..length]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        normalise(Url::parse(text).unwrap()).map_or_else(String::new, String::from)
    }

    #[test]
    fn the_same_address_has_one_spelling() {
        for (spelling, expected) in [
            ("HTTP://Example.COM:80/a/../b#top", "http://example.com/b"),
            ("http://example.com", "http://example.com/"),
            ("http://example.com/?", "http://example.com/"),
            ("http://u:p@example.com/x", "http://example.com/x"),
            ("http://example.com/%7euser/%41%2f%c3%a9", "http://example.com/~user/A%2F%C3%A9"),
            ("http://example.com/?q=%41%2b%26", "http://example.com/?q=A%2B%26"),
            ("http://example.com/100%", "http://example.com/100%"),
            ("http://example.com/é", "http://example.com/%C3%A9"),
            ("https://example.com:443/", "https://example.com/"),
        ] {
            assert_eq!(normal(spelling), expected, "{spelling}");
            assert_eq!(normal(expected), expected, "normal forms are left alone");
        }
    }

    #[test]
    fn what_is_not_of_the_web_is_left() {
        for other in ["mailto:a@b.c", "javascript:void(0)", "ftp://example.com/", "data:,x"] {
            assert_eq!(normal(other), "", "{other}");
        }
        assert_eq!(normal(&format!("http://example.com/{}", "x".repeat(LONGEST))), "");
    }

    #[test]
    fn circles_are_seen() {
        assert!(repeats("/a/a/a/a/"));
        assert!(repeats("/x/a/b/a/b/a/b/a/b/page"));
        assert!(!repeats("/a/a/a/b"));
        assert!(!repeats("/2026/11/27/11/"));
        assert!(!repeats("/"));
    }
}
