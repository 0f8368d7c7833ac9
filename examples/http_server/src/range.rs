//! Parts of a file: the header `Range` (RFC 9110, 14).

use crate::parse::decimal;

/// More parts than these, and the file is sent whole: nobody needs them, and they cost more than the file.
const MAX_PARTS: usize = 16;

/// Some bytes of a file: not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) length: u64,
}

impl Part {
    /// As the header `Content-Range` says it.
    pub(crate) fn content_range(&self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.start + self.length - 1)
    }
}

/// What a request for parts comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: there is no such header, or it makes no sense, or asks for too much.
    Whole,
    Parts(Vec<Part>),
    /// None of the parts is within the file.
    Nothing,
}

/// What `header` asks for, of a file of `size` bytes.
pub(crate) fn wanted(header: Option<&[u8]>, size: u64) -> Wanted {
    let Some(header) = header else { return Wanted::Whole };
    let Some(specs) =
        header.split_at_checked(6).filter(|(unit, _)| unit.eq_ignore_ascii_case(b"bytes="))
    else {
        return Wanted::Whole;
    };
    let mut parts: Vec<Part> = Vec::new();
    let mut some = false;
    for spec in specs.1.split(|&byte| byte == b',') {
        let spec = spec.trim_ascii();
        if spec.is_empty() {
            continue;
        }
        some = true;
        match part(spec, size) {
            None => return Wanted::Whole,
            Some(None) => {}
            Some(Some(part)) => parts.push(part),
        }
        if parts.len() > MAX_PARTS {
            return Wanted::Whole;
        }
    }
    if !some {
        return Wanted::Whole;
    }
    if parts.is_empty() {
        return Wanted::Nothing;
    }
    // Parts that overlap, or come to more than the file, are somebody's try to make us work.
    let mut sorted = parts.clone();
    sorted.sort_by_key(|part| part.start);
    if sorted.windows(2).any(|pair| pair[0].start + pair[0].length > pair[1].start) {
        return Wanted::Whole;
    }
    Wanted::Parts(parts)
}

/// `None` is no range at all, `Some(None)` one beyond the file.
fn part(spec: &[u8], size: u64) -> Option<Option<Part>> {
    let dash = spec.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        let length = decimal(last)?.min(size);
        return Some((length > 0).then(|| Part { start: size - length, length }));
    }
    let start = decimal(first)?;
    let end = match last {
        [] => u64::MAX,
        last => decimal(last)?,
    };
    if end < start {
        return None;
    }
    let beyond = start >= size;
    Some(
        (!beyond)
            .then(|| Part { start, length: (end - start).saturating_add(1).min(size - start) }),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz;

    fn of(header: &str, size: u64) -> Wanted {
        wanted(Some(header.as_bytes()), size)
    }

    fn parts(parts: &[(u64, u64)]) -> Wanted {
        Wanted::Parts(parts.iter().map(|&(start, length)| Part { start, length }).collect())
    }

    #[test]
    fn the_forms_of_a_range() {
        assert_eq!(of("bytes=0-0", 100), parts(&[(0, 1)]));
        assert_eq!(of("bytes=10-19", 100), parts(&[(10, 10)]));
        assert_eq!(of("bytes=90-", 100), parts(&[(90, 10)]));
        assert_eq!(of("bytes=90-1000", 100), parts(&[(90, 10)]));
        assert_eq!(of("bytes=-5", 100), parts(&[(95, 5)]));
        assert_eq!(of("bytes=-500", 100), parts(&[(0, 100)]));
        assert_eq!(of("Bytes=0-18446744073709551615", 100), parts(&[(0, 100)]));
        assert_eq!(of("bytes=0-1, 5-6,, -1", 100), parts(&[(0, 2), (5, 2), (99, 1)]));
        assert_eq!(of("bytes=0-1,200-", 100), parts(&[(0, 2)]));
        assert_eq!(wanted(None, 100), Wanted::Whole);
    }

    #[test]
    fn what_makes_no_sense_is_no_range() {
        for header in [
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=1",
            "lines=1-2",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1-2x",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(of(header, 100), Wanted::Whole, "{header}");
        }
    }

    #[test]
    fn what_is_beyond_the_file_is_nothing() {
        assert_eq!(of("bytes=100-", 100), Wanted::Nothing);
        assert_eq!(of("bytes=-0", 100), Wanted::Nothing);
        assert_eq!(of("bytes=0-", 0), Wanted::Nothing);
    }

    #[test]
    fn greed_gets_the_file_whole() {
        assert_eq!(of("bytes=0-50,50-60", 100), Wanted::Whole);
        let many: Vec<_> = (0..17).map(|n| format!("{0}-{0}", 2 * n)).collect();
        assert_eq!(of(&format!("bytes={}", many.join(",")), 100), Wanted::Whole);
    }

    #[test]
    fn no_header_makes_a_part_that_is_not_in_the_file() {
        let inputs = (fuzz::soup(b"0123456789-,- =xb", 20), 0..200_u64);
        fuzz::check(20_000, inputs, |(text, size)| {
            let header = [b"bytes=".as_slice(), &text].concat();
            let Wanted::Parts(parts) = wanted(Some(&header), size) else { return Ok(()) };
            prop_assert!(!parts.is_empty() && parts.len() <= MAX_PARTS);
            let mut bytes = vec![false; size as usize];
            for Part { start, length } in &parts {
                prop_assert!(*length > 0 && start + length <= size);
                for byte in &mut bytes[*start as usize..(start + length) as usize] {
                    prop_assert!(!std::mem::replace(byte, true), "two parts have it");
                }
            }
            let say = |part: &Part| format!("{}-{}", part.start, part.start + part.length - 1);
            let said: Vec<_> = parts.iter().map(say).collect();
            prop_assert_eq!(of(&format!("bytes={}", said.join(",")), size), Wanted::Parts(parts));
            Ok(())
        });
    }
}
