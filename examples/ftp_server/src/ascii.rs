//! The line ends of `TYPE A`: LF on disk, CR LF on the wire.

/// Puts a CR before each LF that has none.
#[derive(Debug, Default)]
pub(crate) struct ToWire {
    after_cr: bool,
}

impl ToWire {
    pub(crate) fn convert(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.clear();
        for &byte in bytes {
            if byte == b'\n' && !self.after_cr {
                out.push(b'\r');
            }
            self.after_cr = byte == b'\r';
            out.push(byte);
        }
    }
}

/// Takes the CR out of each CR LF.
#[derive(Debug, Default)]
pub(crate) struct FromWire {
    /// A CR came last and is held back until it is known what follows.
    cr: bool,
}

impl FromWire {
    pub(crate) fn convert(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if std::mem::take(&mut self.cr) && byte != b'\n' {
                out.push(b'\r');
            }
            match byte {
                b'\r' => self.cr = true,
                byte => out.push(byte),
            }
        }
        out
    }

    /// What is still held back at the end.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        if std::mem::take(&mut self.cr) { vec![b'\r'] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz;

    fn to_wire(chunks: &[&[u8]]) -> Vec<u8> {
        let (mut converter, mut all, mut out) = (ToWire::default(), Vec::new(), Vec::new());
        for chunk in chunks {
            converter.convert(chunk, &mut out);
            all.extend_from_slice(&out);
        }
        all
    }

    fn from_wire(chunks: &[&[u8]]) -> Vec<u8> {
        let mut converter = FromWire::default();
        let mut all: Vec<u8> = chunks.iter().flat_map(|chunk| converter.convert(chunk)).collect();
        all.extend(converter.finish());
        all
    }

    #[test]
    fn line_ends_are_converted_wherever_the_text_is_cut() {
        let (disk, wire) = (b"\na\n\nb\rc\n", b"\r\na\r\n\r\nb\rc\r\n");
        for cut in 0..disk.len() {
            assert_eq!(to_wire(&[&disk[..cut], &disk[cut..]]), wire);
        }
        for cut in 0..wire.len() {
            assert_eq!(from_wire(&[&wire[..cut], &wire[cut..]]), disk);
        }
    }

    #[test]
    fn line_ends_that_are_right_already_stay() {
        assert_eq!(to_wire(&[b"a\r\nb"]), b"a\r\nb");
        assert_eq!(to_wire(&[b"a\r", b"\nb"]), b"a\r\nb");
        assert_eq!(from_wire(&[b"a\nb\r\r\n\r"]), b"a\nb\r\n\r");
    }

    #[test]
    fn text_comes_back_as_it_was_however_it_is_cut() {
        let inputs = (fuzz::soup(b"a\r\n\n", 30), fuzz::cuts());
        fuzz::check(10_000, inputs, |(text, cuts)| {
            let pieces = fuzz::pieces(&text, &cuts);
            let wire = to_wire(&[&text]);
            prop_assert_eq!(&to_wire(&pieces), &wire);
            prop_assert_eq!(from_wire(&pieces), from_wire(&[&text]));
            let alone =
                (0..wire.len()).find(|&n| wire[n] == b'\n' && (n == 0 || wire[n - 1] != b'\r'));
            prop_assert_eq!(alone, None);
            // Line ends that were CR LF on disk are LF afterwards.
            prop_assert_eq!(from_wire(&[&wire]), from_wire(&[&text]));
            Ok(())
        });
    }
}
