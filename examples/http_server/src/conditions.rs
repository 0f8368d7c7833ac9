//! Whether the client has the file already, and whether it is still the one that it means (RFC 9110, 13).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::parse::Conditions;

/// By what versions of a file are told apart.
#[derive(Debug)]
pub(crate) struct Version {
    /// With its quotes.
    pub(crate) etag: String,
    /// In whole seconds, as HTTP's dates are. `None` before 1970.
    pub(crate) modified: Option<SystemTime>,
}

/// What a request's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it, parts of it if they were asked for.
    Send { parts: bool },
    /// 304
    NotModified,
    /// 412
    Failed,
}

impl Version {
    pub(crate) fn of(file: &Metadata) -> Version {
        let etag = format!(
            "\"{:x}-{:x}-{:x}.{:x}\"",
            file.ino(),
            file.size(),
            file.mtime(),
            file.mtime_nsec()
        );
        let seconds = u64::try_from(file.mtime()).ok();
        Version { etag, modified: seconds.map(|s| UNIX_EPOCH + Duration::from_secs(s)) }
    }

    /// In the order that RFC 9110, 13.2.2, gives.
    pub(crate) fn judge(&self, conditions: &Conditions<'_>) -> Verdict {
        if !conditions.if_match.is_empty() {
            if !self.is_in(&conditions.if_match, Compare::Strongly) {
                return Verdict::Failed;
            }
        } else if let Some(since) = conditions.if_unmodified_since.and_then(date) {
            if self.modified.is_none_or(|modified| modified > since) {
                return Verdict::Failed;
            }
        }
        if !conditions.if_none_match.is_empty() {
            if self.is_in(&conditions.if_none_match, Compare::Weakly) {
                return Verdict::NotModified;
            }
        } else if let Some(since) = conditions.if_modified_since.and_then(date) {
            if self.modified.is_some_and(|modified| modified <= since) {
                return Verdict::NotModified;
            }
        }
        let parts = match conditions.if_range {
            None => true,
            Some(tag) if tag.starts_with(b"\"") => tag == self.etag.as_bytes(),
            Some(tag) if tag.starts_with(b"W/") => false,
            Some(text) => date(text).is_some_and(|date| Some(date) == self.modified),
        };
        Verdict::Send { parts }
    }

    fn is_in(&self, lists: &[&[u8]], compare: Compare) -> bool {
        let own = self.etag.as_bytes();
        // Our own tags contain no comma, so one that is cut by this was not ours.
        lists.iter().flat_map(|list| list.split(|&byte| byte == b',')).any(|tag| {
            let tag = tag.trim_ascii();
            tag == b"*" || tag == own || {
                compare == Compare::Weakly && tag.strip_prefix(b"W/") == Some(own)
            }
        })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Compare {
    Strongly,
    Weakly,
}

/// A date that is not one is as if it were not there.
fn date(text: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &[u8] = b"Sunday, 06-Nov-94 08:49:38 GMT";
    const SEND: Verdict = Verdict::Send { parts: true };

    fn verdict(set: impl FnOnce(&mut Conditions<'static>)) -> Verdict {
        let mut conditions = Conditions::default();
        set(&mut conditions);
        Version { etag: "\"a-1\"".into(), modified: date(DATE) }.judge(&conditions)
    }

    #[test]
    fn tags() {
        for tag in [&b"\"a-1\""[..], b"*", b"W/\"a-1\"", b"\"x\", \"a-1\""] {
            assert_eq!(verdict(|c| c.if_none_match.push(tag)), Verdict::NotModified);
        }
        assert_eq!(verdict(|c| c.if_none_match.push(b"\"a-2\"")), SEND);
        assert_eq!(verdict(|c| c.if_match.push(b"\"x\",\"a-1\"")), SEND);
        assert_eq!(verdict(|c| c.if_match.push(b"W/\"a-1\"")), Verdict::Failed);
    }

    #[test]
    fn dates() {
        assert_eq!(verdict(|c| c.if_modified_since = Some(DATE)), Verdict::NotModified);
        assert_eq!(verdict(|c| c.if_modified_since = Some(AFTER)), Verdict::NotModified);
        assert_eq!(verdict(|c| c.if_modified_since = Some(BEFORE)), SEND);
        assert_eq!(verdict(|c| c.if_modified_since = Some(b"yesterday")), SEND);
        assert_eq!(verdict(|c| c.if_unmodified_since = Some(DATE)), SEND);
        assert_eq!(verdict(|c| c.if_unmodified_since = Some(BEFORE)), Verdict::Failed);
    }

    #[test]
    fn a_tag_overrides_a_date() {
        let both = |c: &mut Conditions<'static>| {
            c.if_none_match.push(b"\"other\"");
            c.if_modified_since = Some(DATE);
        };
        assert_eq!(verdict(both), SEND);
    }

    #[test]
    fn parts_of_the_version_that_is_meant() {
        let parts = |tag| verdict(|c| c.if_range = Some(tag)) == SEND;
        assert!(parts(b"\"a-1\"") && parts(DATE));
        assert!(!parts(b"\"a-2\"") && !parts(b"W/\"a-1\"") && !parts(AFTER) && !parts(b"x"));
    }
}
