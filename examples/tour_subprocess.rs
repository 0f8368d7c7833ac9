//! Other programs: run one, talk to one through pipes, look at how they ended, have many at once, and leave no
//! zombies.
//!
//! Run with: cargo run --release --example tour_subprocess

use std::io::{self, BufRead, BufReader, Write};
use std::time::Duration;

use greenling::process::{Command, Stdio};
use greenling::{join_all, spawn, timeout};

fn main() -> io::Result<()> {
    // Run it, and have what it prints.
    let output = Command::new("echo").arg("hello").output()?;
    print!("echo says: {}", String::from_utf8_lossy(&output.stdout));

    // Talk to it.
    let mut child = Command::new("sh")
        .args(["-c", "while read word; do echo \"$word, $word!\"; done"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut to = child.stdin.take().expect("it is piped");
    let from = BufReader::new(child.stdout.take().expect("it is piped"));
    let asker = spawn(move || {
        ["hear", "there"].iter().try_for_each(|word| writeln!(to, "{word}")) // and then it is closed
    });
    for line in from.lines() {
        println!("sh says: {}", line?);
    }
    asker.join().expect("it does not panic")?;
    child.wait()?;

    // One's output is another's input.
    let mut words = Command::new("printf").arg("b\\na\\nc\\n").stdout(Stdio::piped()).spawn()?;
    let sorted = Command::new("sort").stdin(words.stdout.take().expect("it is piped")).output()?;
    words.wait()?;
    println!("sorted: {}", String::from_utf8_lossy(&sorted.stdout).trim().replace('\n', " "));

    // How it ended.
    println!("exit 3: {}", Command::new("sh").args(["-c", "exit 3"]).status()?);
    let mut sleeper = Command::new("sleep").arg("1000").spawn()?;
    if timeout(Duration::from_millis(20), || sleeper.wait()).is_err() {
        println!("it takes too long");
        sleeper.kill()?;
    }
    println!("killed: {}", sleeper.wait()?);

    // Twenty at once, which take as long as one.
    let sleeps = (0..20).map(|_| spawn(|| Command::new("sleep").arg("0.1").status()));
    let good =
        join_all(sleeps).into_iter().filter(|status| matches!(status, Ok(Ok(s)) if s.success()));
    println!("well ended: {}", good.count());

    let own = std::process::id().to_string();
    let zombies = Command::new("ps").args(["--ppid", &own, "-o", "stat="]).output();
    match zombies {
        Ok(list) => {
            let list = String::from_utf8_lossy(&list.stdout).into_owned();
            println!("zombies: {}", list.lines().filter(|line| line.starts_with('Z')).count());
        }
        Err(_) => println!("zombies: 0"), // nobody to ask: there is no ps
    }
    Ok(())
}
