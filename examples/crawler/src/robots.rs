//! robots.txt and site maps: what a host asks of its visitors.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::Event;
use texting_robots::Robot;
use url::Url;

use crate::fetch::Fetcher;
use crate::page::host_of;

/// RFC 9309 asks for at least so much to be read.
const LONGEST: u64 = 512 << 10;
/// The standard's own limits for a site map.
const LARGEST_MAP: u64 = 50 << 20;
const MOST_ADDRESSES: usize = 50_000;
/// For a host, counting those that others point to.
const MOST_MAPS: usize = 50;

/// What a host has said.
#[derive(Debug)]
pub(crate) struct Rules {
    robot: Option<Robot>,
    /// If robots.txt cannot be had for now, nothing is allowed (RFC 9309, 2.3.1.4).
    unreachable: Option<String>,
    pub(crate) delay: Option<Duration>,
    pub(crate) sitemaps: Vec<Url>,
}

impl Rules {
    fn free() -> Rules {
        Rules { robot: None, unreachable: None, delay: None, sitemaps: Vec::new() }
    }

    /// Why an address must not be fetched.
    pub(crate) fn refuses(&self, url: &Url) -> Option<String> {
        if let Some(why) = &self.unreachable {
            return Some(format!("robots.txt cannot be had: {why}"));
        }
        let allowed = self.robot.as_ref().is_none_or(|robot| robot.allowed(url.as_str()));
        (!allowed).then(|| "robots.txt".to_owned())
    }
}

/// The rules of all hosts, each asked for once.
#[derive(Debug, Default)]
pub(crate) struct Robots {
    known: Mutex<HashMap<String, Arc<OnceLock<Arc<Rules>>>>>,
}

impl Robots {
    /// The rules of the page's host. `first` is called by the one who had to ask for them.
    pub(crate) fn rules(
        &self,
        url: &Url,
        fetcher: &Fetcher,
        agent: &str,
        first: impl FnOnce(&Rules),
    ) -> Arc<Rules> {
        let key = format!("{}://{}", url.scheme(), host_of(url));
        let entry = self.known.lock().unwrap().entry(key).or_default().clone();
        let mut asked = false;
        let rules = entry
            .get_or_init(|| {
                asked = true;
                Arc::new(ask(url, fetcher, agent))
            })
            .clone();
        if asked {
            first(&rules);
        }
        rules
    }
}

fn ask(url: &Url, fetcher: &Fetcher, agent: &str) -> Rules {
    let Ok(address) = url.join("/robots.txt") else { return Rules::free() };
    let answer = match fetcher.file(&address, LONGEST) {
        Ok(answer) => answer,
        Err(failure) => {
            let why = Some(format!("{}: {}", failure.kind, failure.detail));
            return Rules { unreachable: why, ..Rules::free() };
        }
    };
    match answer.status {
        200..300 => {
            // The name without its version is what robots.txt speaks of.
            let name = agent.split(['/', ' ']).next().unwrap_or(agent);
            let Ok(robot) = Robot::new(name, &answer.body) else { return Rules::free() };
            let delay = robot.delay.filter(|s| *s >= 0.0 && s.is_finite());
            let sitemaps = robot.sitemaps.iter().filter_map(|map| address.join(map).ok()).collect();
            Rules { delay: delay.map(Duration::from_secs_f32), sitemaps, ..Rules::free() }
                .with(robot)
        }
        500.. => Rules { unreachable: Some(format!("status {}", answer.status)), ..Rules::free() },
        _ => Rules::free(),
    }
}

impl Rules {
    fn with(mut self, robot: Robot) -> Rules {
        self.robot = Some(robot);
        self
    }
}

/// The addresses of site maps, and of those that they point to.
pub(crate) fn read_sitemaps(maps: &[Url], fetcher: &Fetcher) -> Vec<Url> {
    let mut found = Vec::new();
    let mut seen: HashSet<Url> = HashSet::new();
    let mut left: Vec<Url> = maps.to_vec();
    while let Some(map) = left.pop() {
        if seen.len() >= MOST_MAPS || !seen.insert(map.clone()) {
            continue;
        }
        let Ok(answer) = fetcher.file(&map, LARGEST_MAP) else { continue };
        if answer.status != 200 {
            continue;
        }
        let (is_index, addresses) = parse_sitemap(&unpack(answer.body));
        let addresses = addresses.iter().filter_map(|address| map.join(address).ok());
        if is_index {
            left.extend(addresses);
        } else {
            found.extend(addresses.take(MOST_ADDRESSES));
        }
    }
    found
}

/// Site maps may be files that are compressed, which the headers do not tell.
fn unpack(body: Vec<u8>) -> Vec<u8> {
    use std::io::Read;
    if !body.starts_with(&[0x1f, 0x8b]) {
        return body;
    }
    let mut unpacked = Vec::new();
    // What can be read of it counts.
    let _ = flate2::read::MultiGzDecoder::new(&*body).take(LARGEST_MAP).read_to_end(&mut unpacked);
    unpacked
}

/// Whether it lists other maps, and the addresses in it; of a broken one, those before the fault.
fn parse_sitemap(text: &[u8]) -> (bool, Vec<String>) {
    let mut reader = Reader::from_reader(text);
    let (mut is_index, mut in_loc) = (false, false);
    let (mut addresses, mut address) = (Vec::new(), String::new());
    if !text.trim_ascii_start().starts_with(b"<") {
        // A plain list of addresses is a site map, too.
        let lines = text.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
        let lines = lines.map(|line| line.trim().to_owned());
        return (false, lines.filter(|line| line.starts_with("http")).collect());
    }
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(tag) => match tag.local_name().as_ref() {
                b"sitemapindex" => is_index = true,
                b"loc" => in_loc = true,
                _ => {}
            },
            Event::Text(text) if in_loc => {
                address.push_str(&String::from_utf8_lossy(&text));
            }
            Event::CData(text) if in_loc => address.push_str(&String::from_utf8_lossy(&text)),
            Event::GeneralRef(name) if in_loc => {
                let name = String::from_utf8_lossy(&name).into_owned();
                let known = quick_xml::escape::resolve_predefined_entity(&name);
                address.push_str(known.unwrap_or_default());
            }
            Event::End(tag) if tag.local_name().as_ref() == b"loc" => {
                in_loc = false;
                let found = std::mem::take(&mut address).trim().to_owned();
                if !found.is_empty() {
                    addresses.push(found);
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    (is_index, addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_maps_are_read() {
        let map =
            b"<?xml version='1.0'?><urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>\
            <url><loc> http://e.com/a?x=1&amp;y=2 </loc><lastmod>2026</lastmod></url>\
            <url><loc><![CDATA[http://e.com/b]]></loc></url></urlset>";
        let expected = ["http://e.com/a?x=1&y=2", "http://e.com/b"].map(str::to_owned).to_vec();
        assert_eq!(parse_sitemap(map), (false, expected));
        let index = b"<sitemapindex><sitemap><loc>/m.xml.gz</loc></sitemap></sitemapindex>";
        assert_eq!(parse_sitemap(index), (true, vec!["/m.xml.gz".to_owned()]));
        assert_eq!(parse_sitemap(b"<urlset><url><loc>http://e.com/a</loc><url").1.len(), 1);
        assert_eq!(parse_sitemap(b"http://e.com/a\r\nnonsense\nhttp://e.com/b").1.len(), 2);
    }

    #[test]
    fn packed_site_maps_are_unpacked() {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"<urlset/>").unwrap();
        assert_eq!(unpack(packed.finish().unwrap()), b"<urlset/>");
        assert_eq!(unpack(b"<urlset/>".to_vec()), b"<urlset/>");
    }
}
