//! Two transfers between the same accounts, in opposite directions, each of which locks the account that it takes
//! from first: a deadlock, of which the report names both holders. Then the same in a fixed order, which works.
//!
//! Run with: cargo run --release --example tour_bank_transfer

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use greenling::sync::{Arc, Mutex, PoisonError};
use greenling::thread::{Builder, JoinHandle};
use greenling::{join_all, sleep};

struct Account {
    number: u32,
    balance: Mutex<i64>,
}

type Transfer = fn(&Account, &Account, i64);

/// Locks the accounts in the order in which they are given.
fn careless(from: &Account, to: &Account, amount: i64) {
    let mut from = from.balance.lock().unwrap();
    sleep(Duration::from_millis(5)); // asks the headquarters
    let mut to = to.balance.lock().unwrap();
    *from -= amount;
    *to += amount;
}

/// Locks the account with the lower number first, whatever the direction.
fn ordered(from: &Account, to: &Account, amount: i64) {
    let (first, second) = if from.number < to.number { (from, to) } else { (to, from) };
    let mut first_balance = first.balance.lock().unwrap();
    sleep(Duration::from_millis(5));
    let mut second_balance = second.balance.lock().unwrap();
    let sign = if first.number == from.number { 1 } else { -1 };
    *first_balance -= sign * amount;
    *second_balance += sign * amount;
}

fn start(transfer: Transfer, accounts: &[Arc<Account>; 2]) -> [JoinHandle<()>; 2] {
    [("anna to ben", 0, 1, 100), ("ben to anna", 1, 0, 30)].map(|(name, from, to, amount)| {
        let (from, to) = (accounts[from].clone(), accounts[to].clone());
        let body = move || transfer(&from, &to, amount);
        Builder::new().name(name.to_owned()).spawn(body).expect("there is a stack for it")
    })
}

fn balances(accounts: &[Arc<Account>; 2]) -> [i64; 2] {
    // The transfers that were killed have poisoned their accounts; they had not changed anything yet.
    [0, 1].map(|n| *accounts[n].balance.lock().unwrap_or_else(PoisonError::into_inner))
}

fn main() {
    let accounts = [0, 1].map(|number| Arc::new(Account { number, balance: Mutex::new(500) }));

    println!("careless:");
    let transfers = start(careless, &accounts);
    // A deadlock is a panic of the main coroutine; most programs want just that. Here it goes on.
    std::panic::set_hook(Box::new(|_| ()));
    let result = catch_unwind(AssertUnwindSafe(|| {
        while !transfers[0].is_finished() {
            greenling::thread::park();
        }
    }));
    let payload = result.expect_err("the two wait for each other");
    let report = payload.downcast_ref::<String>().expect("the report");
    println!("{report}");
    let line = |name: &str| report.lines().find(|line| line.contains(name)).expect("it is listed");
    assert!(line("'anna to ben' waits for").contains("a Mutex, held by 'ben to anna'"));
    assert!(line("'ben to anna' waits for").contains("a Mutex, held by 'anna to ben'"));
    // The first that is killed poisons its account on the way out, and the other panics over that.
    for transfer in &transfers {
        transfer.kill();
    }
    drop(std::panic::take_hook());
    assert_eq!(balances(&accounts), [500, 500]);

    println!("ordered:");
    for account in &accounts {
        account.balance.clear_poison();
    }
    assert!(join_all(start(ordered, &accounts)).iter().all(Result::is_ok));
    println!("balances: {:?}", balances(&accounts));
    assert_eq!(balances(&accounts), [430, 570]);
}
