//! Bodies of requests: nothing here wants them, but what comes after them.

use crate::respond::Refusal;

/// The longest line within a chunked body: a size with its extensions, or a trailer.
const MAX_LINE: u32 = 1024;

/// Finds the end of a chunked body (RFC 9112, 7.1), as strictly as the head is read.
#[derive(Debug)]
pub(crate) struct Chunks {
    state: State,
    /// Of the size that is being read, or what is left of the chunk.
    size: u64,
    /// Bytes of the current line.
    line: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    Done,
}

impl Chunks {
    pub(crate) fn new() -> Chunks {
        Chunks { state: State::Size, size: 0, line: 0 }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Goes through what has arrived, and says how much of it belongs to the body.
    pub(crate) fn pass(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            if self.state == State::Data {
                let here = self.size.min((input.len() - at) as u64);
                self.size -= here;
                at += here as usize;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.step(input[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        let wrong = Err(Refusal::bad("the chunks of the body are not valid"));
        self.line += 1;
        if self.line > MAX_LINE {
            return wrong;
        }
        Ok(match (self.state, byte) {
            (State::Size, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                // Sixteen digits of four bits fit into 64.
                if self.line > 16 {
                    return wrong;
                }
                self.size = self.size << 4 | u64::from(digit);
                State::Size
            }
            (State::Size, b';') if self.line > 1 => State::Extension,
            (State::Size, b'\r') if self.line > 1 => State::SizeLf,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => State::Extension,
            (State::SizeLf, b'\n') => {
                self.line = 0;
                if self.size == 0 { State::Trailer } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                (self.line, self.size) = (0, 0);
                State::Size
            }
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => State::Trailer,
            // An empty line is one CR.
            (State::TrailerLf, b'\n') if self.line == 2 => State::Done,
            (State::TrailerLf, b'\n') => {
                self.line = 0;
                State::Trailer
            }
            _ => return wrong,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::{fuzz, fuzz_http};

    /// How long the body is, however it is cut.
    fn length(body: &[u8]) -> Result<Option<usize>, Refusal> {
        let whole = pass_in_pieces(body, body.len().max(1));
        for size in 1..4 {
            assert_eq!(pass_in_pieces(body, size), whole);
        }
        whole
    }

    fn pass_in_pieces(body: &[u8], size: usize) -> Result<Option<usize>, Refusal> {
        pass(&body.chunks(size).collect::<Vec<_>>())
    }

    fn pass(pieces: &[&[u8]]) -> Result<Option<usize>, Refusal> {
        let mut chunks = Chunks::new();
        let mut at = 0;
        for piece in pieces {
            at += chunks.pass(piece)?;
            if chunks.is_done() {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    #[test]
    fn the_end_is_found() {
        assert_eq!(length(b"0\r\n\r\nGET"), Ok(Some(5)));
        assert_eq!(length(b"5\r\nhello\r\n0\r\n\r\n"), Ok(Some(15)));
        assert_eq!(length(b"5;a=\"b\"\r\nhello\r\n00\r\nX: y\r\n\r\nrest"), Ok(Some(28)));
        assert_eq!(length(b"5\r\nhel"), Ok(None));
        assert_eq!(length(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n"), Ok(None));
    }

    #[test]
    fn what_two_could_understand_in_two_ways_is_refused() {
        for body in [
            &b"\r\n"[..],
            b"5\nhello\r\n",
            b"+5\r\nhello",
            b"5 \r\nhello",
            b"0x5\r\nhello",
            b"5\r\nhelloX",
            b"5\r\nhello\n",
            b"5\r\r\n",
            b";\r\n",
            b"g\r\n",
            b"0\r\n\n",
            b"0\r\nX: y\n",
            b"11111111111111111\r\n",
            b"5;\n\r\n",
        ] {
            assert!(length(body).is_err(), "{:?}", String::from_utf8_lossy(body));
        }
        assert!(length(&[b"5;", &[b'a'; 2000][..]].concat()).is_err());
    }

    #[test]
    fn malformed_chunks_are_refused_or_end_in_one_place_only() {
        let (ends, refused) = (Cell::new(0), Cell::new(0));
        let inputs = (fuzz_http::chunked_bodies(), fuzz::cuts());
        fuzz::check(10_000, inputs, |(input, cuts)| {
            let whole = pass(&[&input]);
            prop_assert_eq!(pass(&fuzz::pieces(&input, &cuts)), whole);
            match whole {
                Ok(Some(end)) => {
                    ends.set(ends.get() + 1);
                    prop_assert_eq!(fuzz_http::end_carelessly(&input), Some(end));
                    // What is behind does not matter, and without its last byte it is no body yet.
                    prop_assert_eq!(pass(&[&input[..end]]), whole);
                    prop_assert_eq!(pass(&[&input[..end - 1]]), Ok(None));
                }
                Ok(None) => {}
                Err(_) => refused.set(refused.get() + 1),
            }
            Ok(())
        });
        let (ends, refused) = (ends.get(), refused.get());
        assert!(ends > 500 && refused > 2_500, "{ends} {refused}");
    }
}
