//! A line of JSON for each page.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::page::Page;

#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    file: Mutex<File>,
}

impl Output {
    /// A new file, or the end of an old one.
    pub(crate) fn open(path: &Path, append: bool) -> io::Result<Output> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(!append);
        let mut file = options.open(path)?;
        if append {
            cut_off_torn_line(&mut file)?;
        }
        Ok(Output { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// Writes a line, whole and at once.
    pub(crate) fn write(&self, page: &Page) -> io::Result<()> {
        let mut line = serde_json::to_vec(page)?;
        line.push(b'\n');
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whatever ended an earlier run may have done so in the middle of a line.
fn cut_off_torn_line(file: &mut File) -> io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = vec![0; 64 << 10];
    let mut keep = end;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        match part.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => {
                keep = start + at as u64 + 1;
                break;
            }
            None => (keep, end) = (start, start),
        }
    }
    file.set_len(keep)?;
    file.seek(SeekFrom::Start(keep))?;
    Ok(())
}

/// The pages of a file, as far as they can be read.
pub(crate) fn pages(path: &Path) -> io::Result<impl Iterator<Item = Page>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        // A pipe or a device gives back nothing of what was written to it, and may never end.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let lines = BufReader::new(file).lines();
    Ok(lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_cut_off() {
        let path = std::env::temp_dir().join(format!("crawler-output-{}", std::process::id()));
        for (before, after) in
            [("", ""), ("torn", ""), ("{}\n", "{}\n"), ("{}\n{}\n{\"u", "{}\n{}\n")]
        {
            std::fs::write(&path, before).unwrap();
            drop(Output::open(&path, true).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
        let long = format!("{{}}\n{}", "x".repeat(200_000));
        std::fs::write(&path, long).unwrap();
        let output = Output::open(&path, true).unwrap();
        output.write(&Page { url: "http://a/".into(), ..Page::default() }).unwrap();
        assert_eq!(pages(&path).unwrap().count(), 1);
        std::fs::remove_file(&path).unwrap();
    }
}
