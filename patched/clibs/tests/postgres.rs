//! diesel over libpq, a C library, against a real PostgreSQL.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use greenling::{patch, spawn};
use greenling_patched::{deadline, overlapping};
use greenling_patched_clibs::Database;

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

fn connect(port: u16) -> PgConnection {
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match PgConnection::establish(&url) {
            Ok(connection) => return connection,
            // It listens some time before it serves.
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn number(connection: &mut PgConnection, query: &str) -> i64 {
    diesel::sql_query(query).get_result::<Number>(connection).unwrap().n
}

#[test]
fn libpq_waits_beside_others() {
    let Some(server) = Database::postgres() else { return };
    let port = server.port();
    connect(port);
    let serial = Duration::from_millis(500) * 100;
    overlapping("libpq (diesel): queries of 500 ms", 100, serial, move |n| {
        let mut connection = connect(port);
        number(&mut connection, &format!("select {n}::bigint as n from pg_sleep(0.5)"))
    });
    overlapping("libpq (diesel): results of 10000 rows", 20, Duration::MAX, move |_| {
        let query = "select n::bigint from generate_series(1, 10000) as n";
        let rows = diesel::sql_query(query).load::<Number>(&mut connect(port)).unwrap();
        rows.iter().map(|row| row.n).sum::<i64>()
    });
    a_lock_in_the_server_is_waited_for(port);
    a_killed_query_ends(port);
}

/// Each increments a number that all the others lock: in the database, on one thread.
fn a_lock_in_the_server_is_waited_for(port: u16) {
    deadline(60, move || {
        patch::all();
        let mut main = connect(port);
        main.batch_execute("create table one (n bigint); insert into one values (0)").unwrap();
        let writers: Vec<_> = (0..20)
            .map(|_| {
                spawn(move || {
                    let mut connection = connect(port);
                    connection
                        .transaction::<(), diesel::result::Error, _>(|connection| {
                            let n = number(connection, "select n from one for update");
                            connection.batch_execute("select pg_sleep(0.01)")?;
                            connection.batch_execute(&format!("update one set n = {}", n + 1))
                        })
                        .unwrap();
                })
            })
            .collect();
        writers.into_iter().for_each(|one| one.join().unwrap());
        assert_eq!(number(&mut main, "select n from one"), 20);
    });
}

/// A kill is an error for libpq, and its descriptor is closed.
fn a_killed_query_ends(port: u16) {
    deadline(60, move || {
        patch::all();
        connect(port); // the hub opens its own
        let before = greenling_patched::descriptors();
        let start = Instant::now();
        let queries: Vec<_> = (0..20)
            .map(|_| {
                spawn(move || {
                    diesel::sql_query("select pg_sleep(50)").execute(&mut connect(port)).is_err()
                })
            })
            .collect();
        greenling::sleep(Duration::from_millis(500));
        queries.iter().for_each(greenling::JoinHandle::kill);
        for one in queries {
            assert!(one.join().unwrap_or(true));
        }
        assert!(start.elapsed() < Duration::from_secs(30));
        greenling_patched::assert_descriptors(&before);
    });
}
