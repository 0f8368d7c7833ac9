//! What a request is answered.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;

use crate::conditions::{Verdict, Version};
use crate::files::{self, Found, Place, Root};
use crate::listing::Listing;
use crate::parse::Request;
use crate::range::{self, Part, Wanted};
use crate::respond::{Head, error_page};

/// What we do with a target.
pub(crate) const METHODS: &str = "GET, HEAD, OPTIONS";

/// An answer that has not been sent.
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) content: Content,
}

/// A body.
pub(crate) enum Content {
    /// There is none, and none is announced.
    None,
    Page(String),
    File(File, Part),
    /// Several parts of a file, each after a text of its own, and a text at the end.
    Parts(File, Vec<(String, Part)>, String),
    Listing(Listing),
}

impl Answer {
    pub(crate) fn error(status: u16, why: &str) -> Answer {
        let mut head = Head::new(status);
        head.header("Content-Type", "text/html; charset=utf-8");
        Answer { head, content: Content::Page(error_page(status, why)) }
    }

    /// What is answered to a request for something below the root.
    pub(crate) fn to(request: &Request<'_>, root: &Root, may_list: bool) -> Answer {
        match request.method {
            "GET" | "HEAD" => {}
            "OPTIONS" => {
                let mut head = Head::new(204);
                head.header("Allow", METHODS);
                return Answer { head, content: Content::None };
            }
            _ => {
                let mut answer = Answer::error(405, "This server only shows what it has.");
                answer.head.header("Allow", METHODS);
                return answer;
            }
        }
        let place = match Place::of(request.path) {
            Ok(place) if place.is_hidden() => return not_found(),
            Ok(place) => place,
            Err(refusal) => return Answer::error(refusal.status, refusal.why),
        };
        match find(request, root, place, may_list) {
            Ok(answer) => answer,
            Err(error) => of_error(&error),
        }
    }
}

fn not_found() -> Answer {
    Answer::error(404, "There is nothing here.")
}

fn of_error(error: &io::Error) -> Answer {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => not_found(),
        (io::ErrorKind::PermissionDenied, _) => Answer::error(403, "This is not for everybody."),
        (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
            let mut answer = Answer::error(503, "The server has too much to do.");
            answer.head.header("Retry-After", "1");
            answer
        }
        _ => {
            ::log::error!("cannot open what was asked for: {error}");
            Answer::error(500, "Something went wrong.")
        }
    }
}

fn find(request: &Request<'_>, root: &Root, place: Place, may_list: bool) -> io::Result<Answer> {
    let found = root.find(&place)?;
    if found.about.is_dir() {
        return directory(request, root, place, found, may_list);
    }
    if place.is_directory {
        return Ok(not_found());
    }
    Ok(file(request, place.name(), found))
}

fn directory(
    request: &Request<'_>,
    root: &Root,
    place: Place,
    found: Found,
    may_list: bool,
) -> io::Result<Answer> {
    // With a slash at the end, so that relative links mean what is below.
    if !place.is_directory {
        let mut answer = Answer::error(301, "A directory's address ends with a slash.");
        answer.head.header("Location", &place.encoded(true));
        return Ok(answer);
    }
    let index = place.child("index.html");
    match root.find(&index) {
        Ok(found) if found.about.is_file() => return Ok(file(request, index.name(), found)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if !may_list {
        return Ok(Answer::error(403, "This directory is not shown."));
    }
    let entries = files::entries(&found.file)?;
    let mut head = Head::new(200);
    head.header("Content-Type", "text/html; charset=utf-8").header("Cache-Control", "no-cache");
    Ok(Answer { head, content: Content::Listing(Listing::new(&place, entries)) })
}

fn file(request: &Request<'_>, name: &OsStr, found: Found) -> Answer {
    let version = Version::of(&found.about);
    let parts = match version.judge(&request.conditions) {
        Verdict::Send { parts } => parts && request.method == "GET",
        Verdict::NotModified => {
            let mut head = Head::new(304);
            identify(&mut head, &version);
            return Answer { head, content: Content::None };
        }
        Verdict::Failed => return Answer::error(412, "This is another version of the file."),
    };
    let size = found.about.len();
    let range = request.conditions.range.filter(|_| parts);
    let kind = media_type(name);
    match range::wanted(range, size) {
        Wanted::Nothing => {
            let mut answer = Answer::error(416, "The file has no such part.");
            answer.head.header("Content-Range", &format!("bytes */{size}"));
            answer
        }
        Wanted::Whole => {
            let mut head = Head::new(200);
            identify(&mut head, &version);
            head.header("Content-Type", &kind).header("Accept-Ranges", "bytes");
            // Browsers are not to guess.
            head.header("X-Content-Type-Options", "nosniff");
            Answer { head, content: Content::File(found.file, Part { start: 0, length: size }) }
        }
        Wanted::Parts(parts) => partial(found.file, size, &version, &kind, &parts),
    }
}

fn partial(file: File, size: u64, version: &Version, kind: &str, parts: &[Part]) -> Answer {
    let mut head = Head::new(206);
    identify(&mut head, version);
    if let &[part] = parts {
        head.header("Content-Type", kind).header("Content-Range", &part.content_range(size));
        return Answer { head, content: Content::File(file, part) };
    }
    let boundary = boundary();
    head.header("Content-Type", &format!("multipart/byteranges; boundary={boundary}"));
    let parts = parts
        .iter()
        .enumerate()
        .map(|(at, part)| {
            let before = if at == 0 { "" } else { "\r\n" };
            let range = part.content_range(size);
            let text = format!(
                "{before}--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {range}\r\n\r\n"
            );
            (text, *part)
        })
        .collect();
    Answer { head, content: Content::Parts(file, parts, format!("\r\n--{boundary}--\r\n")) }
}

fn identify(head: &mut Head, version: &Version) {
    head.header("ETag", &version.etag);
    if let Some(modified) = version.modified {
        head.header("Last-Modified", &httpdate::fmt_http_date(modified));
    }
}

/// By the name's ending.
fn media_type(name: &OsStr) -> String {
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let charset = if kind.type_() == "text" { "; charset=utf-8" } else { "" };
    format!("{kind}{charset}")
}

/// What no file contains by accident, and nobody can foresee.
fn boundary() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
