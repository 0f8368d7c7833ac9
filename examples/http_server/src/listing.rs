//! The page of a directory, written piece by piece: nobody knows its length before its end.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use crate::files::{Place, encode};
use crate::respond::escape_html;

/// A page in the making.
pub(crate) struct Listing {
    title: String,
    has_parent: bool,
    entries: std::vec::IntoIter<(OsString, bool)>,
    state: State,
}

enum State {
    Begin,
    Entries,
    End,
}

impl Listing {
    pub(crate) fn new(place: &Place, entries: Vec<(OsString, bool)>) -> Listing {
        let path = place.encoded(true);
        let path = percent_encoding::percent_decode_str(&path).decode_utf8_lossy();
        let title = format!("Index of {}", escape_html(&path));
        let has_parent = !place.is_root();
        Listing { title, has_parent, entries: entries.into_iter(), state: State::Begin }
    }
}

impl Iterator for Listing {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        match self.state {
            State::Begin => {
                self.state = State::Entries;
                let title = &self.title;
                let parent = if self.has_parent { "<li><a href=\"../\">../</a>\n" } else { "" };
                Some(format!(
                    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
                     <title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{parent}"
                ))
            }
            State::Entries => match self.entries.next() {
                Some((name, is_directory)) => {
                    let slash = if is_directory { "/" } else { "" };
                    // Before a relative link, lest a name with a colon looks like a scheme.
                    let href = format!("./{}{slash}", encode(name.as_bytes()));
                    let text = escape_html(&name.to_string_lossy());
                    Some(format!("<li><a href=\"{href}\">{text}{slash}</a>\n"))
                }
                None => {
                    self.state = State::End;
                    Some("</ul>\n</html>\n".to_owned())
                }
            },
            State::End => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_links_are_links() {
        let place = Place::of("/a&b/").unwrap();
        let names = [("x\"><script>", false), ("javascript:alert(1)", false), ("d ir", true)];
        let entries = names.map(|(name, is_dir)| (OsString::from(name), is_dir)).to_vec();
        let page: String = Listing::new(&place, entries).collect();
        assert!(page.contains("<h1>Index of /a&amp;b/</h1>") && page.contains("../"), "{page}");
        assert!(page.contains("<a href=\"./x%22%3E%3Cscript%3E\">x&quot;&gt;&lt;script&gt;</a>"));
        assert!(page.contains("href=\"./javascript%3Aalert%281%29\""), "{page}");
        assert!(page.contains("<a href=\"./d%20ir/\">d ir/</a>"), "{page}");
    }
}
