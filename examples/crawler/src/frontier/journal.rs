//! The frontier's file: what was found and what is done, a line of JSON each, in order.
//!
//! A line is written at once, so that the crawl can go on from there whatever ends it.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::output;
use crate::page::{Job, Page};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Line {
    /// The first line: with what the crawl began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seeds: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<String>,
    /// Whether its host was asked for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unasked: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    add: Vec<Job>,
}

/// What a file tells of an earlier run.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) seeds: Vec<String>,
    /// Everything that was ever found.
    pub(crate) seen: Vec<String>,
    /// What is not done yet, in the order in which it was found.
    pub(crate) pending: Vec<Job>,
    /// How many pages were fetched.
    pub(crate) fetched: u64,
}

#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    line: Vec<u8>,
}

impl Journal {
    /// Begins a new one.
    pub(crate) fn create(path: &Path, seeds: Vec<String>) -> io::Result<Journal> {
        let mut journal = Journal { file: File::create(path)?, line: Vec::new() };
        journal.write(&Line { seeds, ..Line::default() })?;
        Ok(journal)
    }

    /// Goes on with one.
    ///
    /// # Errors
    /// `InvalidData` if it is none.
    pub(crate) fn open(path: &Path) -> io::Result<(Journal, Past)> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut past = Past::default();
        let mut jobs: Vec<Option<Job>> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut good = 0;
        let mut reader = BufReader::new(&mut file);
        let mut text = Vec::new();
        loop {
            text.clear();
            let length = reader.read_until(b'\n', &mut text)?;
            // The last line may have been cut off by whatever ended the crawl.
            let Ok(line) = serde_json::from_slice::<Line>(&text) else { break };
            if !text.ends_with(b"\n") {
                break;
            }
            good += length as u64;
            past.seeds.extend(line.seeds);
            if let Some(done) = line.done {
                past.fetched += u64::from(!line.unasked);
                if let Some(place) = places.get(&done) {
                    jobs[*place] = None;
                }
            }
            for job in line.add {
                places.insert(job.url.to_string(), jobs.len());
                past.seen.push(job.url.to_string());
                jobs.push(Some(job));
            }
        }
        if past.seeds.is_empty() {
            let what = format!("{} holds no crawl", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        past.pending = jobs.into_iter().flatten().collect();
        file.set_len(good)?;
        file.seek(io::SeekFrom::Start(good))?;
        Ok((Journal { file, line: Vec::new() }, past))
    }

    pub(crate) fn added(&mut self, jobs: &[Job]) -> io::Result<()> {
        self.write(&Line { add: jobs.to_vec(), ..Line::default() })
    }

    pub(crate) fn done(&mut self, url: &str, fetched: bool, found: &[Job]) -> io::Result<()> {
        let done = Some(url.to_owned());
        self.write(&Line { done, unasked: !fetched, add: found.to_vec(), ..Line::default() })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.file.write_all(&self.line)
    }
}

/// The pages that an earlier run has written out, of which the journal does not know that they are done:
/// it was ended between the two.
pub(crate) fn written_but_pending(output: &Path, past: &Past) -> io::Result<Vec<Page>> {
    let pages = match output::pages(output) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        pages => pages?,
    };
    let pending: HashSet<&str> = past.pending.iter().map(|job| job.url.as_str()).collect();
    Ok(pages.filter(|page| pending.contains(&*page.url)).collect())
}
