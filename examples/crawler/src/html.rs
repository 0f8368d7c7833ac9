//! Links out of HTML, by a tokenizer that follows the standard.

use std::collections::HashSet;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};
use url::Url;

use crate::address::normalise;

/// What a page says.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) title: Option<String>,
    pub(crate) links: Vec<Url>,
    /// `<meta name=robots content=nofollow>`.
    pub(crate) nofollow: bool,
}

/// Decodes a page: by its byte order mark, the charset of its headers, or what it declares itself. What makes
/// no sense in that encoding becomes U+FFFD.
pub(crate) fn decode(body: &[u8], charset: Option<&str>) -> String {
    let declared = charset.map(str::to_owned).or_else(|| declared_charset(body));
    let encoding = match declared.and_then(|label| Encoding::for_label(label.as_bytes())) {
        Some(encoding) => encoding,
        None if std::str::from_utf8(body).is_ok() => UTF_8,
        None => WINDOWS_1252, // the standard's last resort
    };
    encoding.decode(body).0.into_owned()
}

/// The charset that the beginning of a page declares.
fn declared_charset(body: &[u8]) -> Option<String> {
    let beginning = &body[..body.len().min(1024)];
    start_tags(beginning).filter(|tag| **tag.name == *b"meta").find_map(|tag| {
        attribute(&tag, "charset").or_else(|| {
            let content = attribute(&tag, "content")?.to_ascii_lowercase();
            let (_, charset) = content.split_once("charset=")?;
            Some(charset.split(';').next()?.trim_matches(['"', '\'', ' ']).to_owned())
        })
    })
}

fn tokens(text: &[u8]) -> impl Iterator<Item = Token> + '_ {
    let mut emitter = DefaultEmitter::default();
    // What is inside of <script>, <style> and <title> is text.
    emitter.naively_switch_states(true);
    Tokenizer::new_with_emitter(text, emitter).map(|Ok(token)| token)
}

fn start_tags(text: &[u8]) -> impl Iterator<Item = StartTag<()>> + '_ {
    tokens(text).filter_map(|token| match token {
        Token::StartTag(tag) => Some(tag),
        _ => None,
    })
}

fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    let value = tag.attributes.get(name.as_bytes())?;
    Some(String::from_utf8_lossy(value).trim().to_owned())
}

/// Reads a page. With `assets`, what it embeds counts as linked.
pub(crate) fn read(text: &str, address: &Url, assets: bool) -> Contents {
    let mut contents = Contents::default();
    let mut base = address.clone();
    let mut has_base = false;
    let mut seen = HashSet::new();
    let mut title: Option<String> = None;
    let mut in_title = false;
    for token in tokens(text.as_bytes()) {
        match token {
            Token::StartTag(tag) => {
                in_title = &**tag.name == b"title" && contents.title.is_none() && title.is_none();
                match &**tag.name {
                    b"base" if !has_base => {
                        let target =
                            attribute(&tag, "href").and_then(|href| address.join(&href).ok());
                        if let Some(target) = target {
                            (base, has_base) = (target, true);
                        }
                    }
                    b"meta" => contents.nofollow |= says_nofollow(&tag),
                    _ => {}
                }
                for link in linked(&tag, assets) {
                    let target = base.join(&link).ok().and_then(normalise);
                    if let Some(target) = target.filter(|target| seen.insert(target.clone())) {
                        contents.links.push(target);
                    }
                }
            }
            Token::String(text) if in_title => {
                title.get_or_insert_default().push_str(&String::from_utf8_lossy(&text));
            }
            Token::EndTag(tag) if &**tag.name == b"title" => in_title = false,
            _ => {}
        }
    }
    contents.title = title
        .map(|title| title.split_whitespace().collect::<Vec<_>>().join(" "))
        .map(|title| title.chars().take(200).collect());
    contents
}

fn says_nofollow(tag: &StartTag<()>) -> bool {
    attribute(tag, "name").is_some_and(|name| name.eq_ignore_ascii_case("robots"))
        && attribute(tag, "content").is_some_and(|content| {
            let content = content.to_ascii_lowercase();
            content.split(',').any(|word| matches!(word.trim(), "nofollow" | "none"))
        })
}

/// The addresses in a tag, as they stand there.
fn linked(tag: &StartTag<()>, assets: bool) -> Vec<String> {
    let rel = || attribute(tag, "rel").unwrap_or_default().to_ascii_lowercase();
    let has_rel = |wanted: &[&str]| rel().split_whitespace().any(|word| wanted.contains(&word));
    let one = |name| attribute(tag, name).into_iter().collect();
    match &**tag.name {
        b"a" | b"area" if !has_rel(&["nofollow"]) => one("href"),
        b"frame" | b"iframe" => one("src"),
        b"link" if has_rel(&["next", "prev", "canonical", "alternate"]) => one("href"),
        b"link" if assets && has_rel(&["stylesheet", "icon"]) => one("href"),
        b"meta" => refresh(tag).into_iter().collect(),
        b"img" | b"source" if assets => {
            let candidates = attribute(tag, "srcset").unwrap_or_default();
            let candidates = candidates.split(',').filter_map(|c| c.split_whitespace().next());
            attribute(tag, "src").into_iter().chain(candidates.map(str::to_owned)).collect()
        }
        b"script" | b"video" | b"audio" | b"embed" | b"track" if assets => one("src"),
        _ => Vec::new(),
    }
}

/// `<meta http-equiv=refresh content="5; url=…">`
fn refresh(tag: &StartTag<()>) -> Option<String> {
    attribute(tag, "http-equiv").filter(|name| name.eq_ignore_ascii_case("refresh"))?;
    let content = attribute(tag, "content")?;
    let at = content.to_ascii_lowercase().find("url=")?;
    Some(content[at + 4..].trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(html: &str) -> Vec<String> {
        let address = Url::parse("http://example.com/dir/page").unwrap();
        read(html, &address, false).links.into_iter().map(String::from).collect()
    }

    #[test]
    fn links_are_found_as_a_browser_would() {
        assert_eq!(
            links(
                "<a href=one>1</a><A HREF='/two#x'>2</A><a href=\"two\">2</a><area href=?q=1&amp;r=2>\
                 <iframe src=//other.example/></iframe><a href=one>again</a><a>nothing</a>\
                 <!-- <a href=comment> --><script>'<a href=script>'</script>\
                 <textarea><a href=text></textarea><a href='mailto:x@y'>m</a><a href=' three '>3"
            ),
            [
                "http://example.com/dir/one",
                "http://example.com/two",
                "http://example.com/dir/two",
                "http://example.com/dir/page?q=1&r=2",
                "http://other.example/",
                "http://example.com/dir/three"
            ]
        );
    }

    #[test]
    fn the_first_base_counts() {
        assert_eq!(
            links("<base href=/other/><base href=/third/><a href=x>"),
            ["http://example.com/other/x"]
        );
    }

    #[test]
    fn manners_are_read() {
        assert_eq!(links("<a rel='external nofollow' href=x>"), Vec::<String>::new());
        let address = Url::parse("http://example.com/").unwrap();
        assert!(read("<meta name=ROBOTS content='noindex, NoFollow'>", &address, false).nofollow);
        assert!(!read("<meta name=robots content=index>", &address, false).nofollow);
        assert_eq!(
            links("<meta http-equiv=refresh content='0; URL=next'>"),
            ["http://example.com/dir/next"]
        );
    }

    #[test]
    fn titles_are_one_line() {
        let address = Url::parse("http://example.com/").unwrap();
        let page =
            read("<svg></svg><title>\n A &amp;\n B </title><title>no</title>", &address, false);
        assert_eq!(page.title.as_deref(), Some("A & B"));
    }

    #[test]
    fn charsets_are_found() {
        assert_eq!(decode(b"caf\xc3\xa9", None), "café");
        assert_eq!(decode(b"caf\xe9", None), "café");
        assert_eq!(decode(b"caf\xe9", Some("iso-8859-1")), "café");
        assert_eq!(
            decode(b"<meta charset=windows-1251>\xcf", None),
            "<meta charset=windows-1251>П"
        );
        let old = b"<meta http-equiv=Content-Type content='text/html; charset=iso-8859-2'>\xb1";
        assert!(decode(old, None).ends_with('ą'));
        assert_eq!(decode(b"\xef\xbb\xbfx", Some("iso-8859-1")), "x", "the mark wins");
        assert_eq!(decode(b"caf\xe9", Some("no-such-charset")), "café");
        assert!(decode(b"\xff\xfe\xff", Some("utf-8")).contains('\u{fffd}'));
    }
}
