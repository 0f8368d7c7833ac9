//! Who may come in.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

/// Somebody who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) writable: bool,
}

/// The password file, in memory: a line `name:hash` a user, `name:hash:ro` for one who may only read.
#[derive(Debug)]
pub(crate) struct Users {
    /// What somebody who calls himself anonymous may do: nothing, read, or write too.
    anonymous: Anonymous,
    read_only: bool,
    accounts: HashMap<String, Account>,
    /// Checked for a name that does not exist, so that the time tells nobody which ones do.
    decoy: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anonymous {
    Refused,
    Reads,
    Writes,
}

#[derive(Debug)]
struct Account {
    hash: Arc<str>,
    writable: bool,
}

impl Users {
    pub(crate) fn load(
        file: Option<&Path>,
        anonymous: Anonymous,
        read_only: bool,
    ) -> io::Result<Users> {
        let text = file.map(fs::read_to_string).transpose()?.unwrap_or_default();
        let decoy = if file.is_some() { hash(b"nobody's")?.into() } else { "".into() };
        Ok(Users { anonymous, read_only, accounts: parse(&text)?, decoy })
    }

    /// Whether this name needs no password.
    pub(crate) fn is_anonymous(&self, name: &str) -> bool {
        self.anonymous != Anonymous::Refused && matches!(name, "anonymous" | "ftp")
    }

    /// The user, if the password is right. It takes some hundredths of a second of computing, which is
    /// the point of such a hash.
    pub(crate) fn login(&self, name: &str, password: &[u8]) -> Option<User> {
        if self.is_anonymous(name) {
            let writable = self.anonymous == Anonymous::Writes && !self.read_only;
            return Some(User { name: "anonymous".into(), writable });
        }
        if self.accounts.is_empty() {
            return None;
        }
        let account = self.accounts.get(name);
        let hash = account.map_or(&self.decoy, |account| &account.hash);
        let right = verify(Arc::clone(hash), password.to_vec());
        let account = account.filter(|_| right)?;
        Some(User { name: name.into(), writable: account.writable && !self.read_only })
    }
}

fn verify(hash: Arc<str>, password: Vec<u8>) -> bool {
    crate::disk::blocking(move || {
        let hash = PasswordHash::new(&hash);
        hash.is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
    })
}

/// A hash for the password file, with a salt of its own.
pub(crate) fn hash(password: &[u8]) -> io::Result<String> {
    let hash = Argon2::default().hash_password(password).map_err(io::Error::other)?;
    Ok(hash.to_string())
}

fn parse(text: &str) -> io::Result<HashMap<String, Account>> {
    let mut accounts = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let account = account(line).ok_or_else(|| {
            let what = "is neither NAME:HASH nor NAME:HASH:ro; --hash makes such a HASH";
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {} of the password file {what}", number + 1),
            )
        })?;
        accounts.insert(account.0, account.1);
    }
    Ok(accounts)
}

fn account(line: &str) -> Option<(String, Account)> {
    let (name, hash) = line.split_once(':')?;
    let (hash, writable) = match hash.strip_suffix(":ro") {
        Some(hash) => (hash, false),
        None => (hash, true),
    };
    PasswordHash::new(hash).ok()?;
    let account = Account { hash: hash.into(), writable };
    (!name.is_empty()).then(|| (name.to_owned(), account))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(text: &str, anonymous: Anonymous, read_only: bool) -> Users {
        let decoy = hash(b"x").unwrap().into();
        Users { anonymous, read_only, accounts: parse(text).unwrap(), decoy }
    }

    #[test]
    fn only_the_right_password_opens() {
        let text =
            format!("# people\n\nann:{}\nbob:{}:ro\n", hash(b"a").unwrap(), hash(b"b").unwrap());
        let users = users(&text, Anonymous::Refused, false);
        assert!(users.login("ann", b"a").unwrap().writable);
        assert!(!users.login("bob", b"b").unwrap().writable);
        for (name, password) in [("ann", "b"), ("ann", ""), ("eve", "a"), ("anonymous", "a")] {
            assert_eq!(users.login(name, password.as_bytes()), None, "{name} {password}");
        }
    }

    #[test]
    fn anonymous_is_what_the_options_say() {
        let reads = users("", Anonymous::Reads, false).login("anonymous", b"me@").unwrap();
        assert!(!reads.writable);
        assert!(users("", Anonymous::Writes, false).login("ftp", b"").unwrap().writable);
        assert!(!users("", Anonymous::Writes, true).login("ftp", b"").unwrap().writable);
        assert_eq!(users("", Anonymous::Writes, true).login("root", b""), None);
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_with_its_line() {
        let error = parse("# fine\nann:secret\n").unwrap_err().to_string();
        assert!(error.starts_with("line 2 "), "{error}");
    }
}
