//! Command lines out of a Telnet stream.

use std::collections::VecDeque;

/// The longest line that is taken; a path may have 4096 bytes.
const LONGEST: usize = 4096 + 64;

const IAC: u8 = 255;
/// WILL, WONT, DO and DONT, which an option follows.
const NEGOTIATION: std::ops::RangeInclusive<u8> = 251..=254;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its end.
    Command(Vec<u8>),
    /// It was longer than any command is, and has been thrown away.
    TooLong,
}

/// Cuts what arrives into lines, and takes out what belongs to Telnet (RFC 854, which RFC 959 says
/// the control connection speaks): clients precede `ABOR` by `IAC IP IAC DM`.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    telnet: Telnet,
    line: Vec<u8>,
    too_long: bool,
    ready: VecDeque<Line>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telnet {
    #[default]
    Text,
    /// After IAC.
    Command,
    /// After IAC and one of WILL, WONT, DO and DONT. Options are not answered: a server that
    /// negotiates none is one that both sides must be able to talk to.
    Option,
}

impl LineReader {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match (self.telnet, byte) {
                (Telnet::Text, IAC) => self.telnet = Telnet::Command,
                (Telnet::Text, byte) => self.text(byte),
                (Telnet::Command, IAC) => {
                    self.telnet = Telnet::Text;
                    self.text(IAC);
                }
                (Telnet::Command, byte) if NEGOTIATION.contains(&byte) => {
                    self.telnet = Telnet::Option;
                }
                (Telnet::Command | Telnet::Option, _) => self.telnet = Telnet::Text,
            }
        }
    }

    /// The next whole line, if there is one.
    pub(crate) fn next(&mut self) -> Option<Line> {
        self.ready.pop_front()
    }

    fn text(&mut self, byte: u8) {
        if byte == b'\n' {
            let mut line = std::mem::take(&mut self.line);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            self.ready.push_back(match std::mem::take(&mut self.too_long) {
                true => Line::TooLong,
                false => Line::Command(line),
            });
        } else if self.line.len() < LONGEST {
            self.line.push(byte);
        } else {
            self.too_long = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz;

    fn lines(chunks: &[&[u8]]) -> Vec<Line> {
        let mut reader = LineReader::default();
        chunks.iter().for_each(|chunk| reader.push(chunk));
        std::iter::from_fn(|| reader.next()).collect()
    }

    fn command(text: &[u8]) -> Line {
        Line::Command(text.to_vec())
    }

    #[test]
    fn lines_end_in_lf_with_or_without_cr() {
        assert_eq!(lines(&[b"NOOP\r\nPWD\nQU", b"IT\r", b"\nx"]).len(), 3);
        assert_eq!(lines(&[b"a\rb\r\n"]), [command(b"a\rb")]);
        assert_eq!(lines(&[b"\r\n\n"]), [command(b""), command(b"")]);
    }

    #[test]
    fn telnet_commands_are_taken_out_wherever_they_are_cut() {
        let whole = b"\xff\xf4\xff\xf2ABOR\r\n\xff\xfd\x03NO\xff\xffOP\r\n";
        let expected = [command(b"ABOR"), command(b"NO\xffOP")];
        for cut in 0..whole.len() {
            assert_eq!(lines(&[&whole[..cut], &whole[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_long_line_is_thrown_away_and_what_follows_is_not() {
        let long = vec![b'x'; 1_000_000];
        let mut reader = LineReader::default();
        reader.push(&long);
        assert!(reader.line.capacity() < 3 * LONGEST, "it is not kept");
        reader.push(b"\r\nNOOP\r\n");
        assert_eq!(reader.next(), Some(Line::TooLong));
        assert_eq!(reader.next(), Some(command(b"NOOP")));
        let longest = [&vec![b'x'; LONGEST][..], b"\n"].concat();
        assert_eq!(lines(&[&longest]), [command(&longest[..LONGEST])]);
    }

    /// Lines as they are written by who knows Telnet.
    fn printed(lines: &[Line]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            let Line::Command(line) = line else { continue };
            for &byte in line {
                bytes.push(byte);
                bytes.extend((byte == IAC).then_some(IAC));
            }
            bytes.extend(b"\r\n");
        }
        bytes
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut_and_are_printed_back() {
        let line = prop_oneof![
            fuzz::soup(b"A \r\n\r\n\xff\xfb\xfe\xf4\xf2\0", 30),
            fuzz::mutated(Just(b"RETR a\r\n\xff\xf4\xff\xf2ABOR\r\nNOOP\r\n".to_vec()), 4),
            (LONGEST - 2..LONGEST + 3).prop_map(|length| fuzz::Bytes(vec![b'x'; length])),
        ];
        let text = proptest::collection::vec(line, 0..4).prop_map(|parts| {
            let parts: Vec<_> = parts.into_iter().map(|part| part.0).collect();
            fuzz::Bytes(parts.concat())
        });
        let told = fuzz::soup(b"A \r\xff\0", 20).prop_map(|mut told| {
            told.0.push(b'.');
            told
        });
        let told = proptest::collection::vec(told, 0..4);
        fuzz::check(10_000, (text, fuzz::cuts(), told), |(text, cuts, told)| {
            // What is well written is understood, also behind a line that is too long.
            let told: Vec<_> = told.iter().map(|told| command(told)).collect();
            prop_assert_eq!(&lines(&[&printed(&told)]), &told);
            let behind = lines(&[&[b'x'; LONGEST + 1], b"\n", &printed(&told)]);
            prop_assert_eq!(&behind[..1], [Line::TooLong]);
            prop_assert_eq!(&behind[1..], told);
            let mut whole = lines(&[&text]);
            prop_assert_eq!(&lines(&fuzz::pieces(&text, &cuts)), &whole);
            whole.retain(|line| *line != Line::TooLong);
            for line in &whole {
                let Line::Command(line) = line else { unreachable!() };
                prop_assert!(line.len() <= LONGEST && !line.contains(&b'\n'));
            }
            // The longest lines have no place for a carriage return.
            whole.retain(|line| matches!(line, Line::Command(line) if line.len() < LONGEST));
            prop_assert_eq!(lines(&[&printed(&whole)]), whole);
            Ok(())
        });
    }
}
