//! The mysql crate against a real MariaDB.

use std::time::{Duration, Instant};

use greenling_patched::overlapping;
use greenling_patched_clibs::Database;
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};

fn options(port: u16) -> OptsBuilder {
    let options = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(port);
    options.user(Some("root")).prefer_socket(false)
}

fn connect(port: u16) -> Conn {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match Conn::new(Opts::from(options(port))) {
            Ok(connection) => return connection,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn mysql_waits_beside_others() {
    let Some(server) = Database::mariadb() else { return };
    let port = server.port();
    connect(port);
    let serial = Duration::from_millis(500) * 100;
    overlapping("mysql: queries of 500 ms", 100, serial, move |n| {
        let row: Option<(u64, u64)> =
            connect(port).query_first(format!("select sleep(0.5), {n}")).unwrap();
        row.unwrap().1
    });
    let insert = "create temporary table t as select seq from seq_1_to_10000";
    overlapping("mysql: results of 10000 rows", 20, Duration::MAX, move |_| {
        let mut connection = connect(port);
        connection.query_drop("use test").unwrap();
        connection.query_drop(insert).unwrap();
        let rows: Vec<u64> = connection.query("select seq from t").unwrap();
        rows.iter().sum::<u64>()
    });
    // The pool hands its connections over by std's Mutex and Condvar: forty coroutines wait for four.
    let constraints = PoolConstraints::new(0, 4).unwrap();
    let pool =
        Pool::new(options(port).pool_opts(PoolOpts::default().with_constraints(constraints)));
    let pool = pool.unwrap();
    let serial = Duration::from_millis(100) * 40;
    overlapping("mysql: queries of 100 ms by a pool of four", 40, serial, move |n| {
        let mut connection = pool.get_conn().unwrap();
        let row: Option<(u64, u64)> =
            connection.query_first(format!("select sleep(0.1), {n}")).unwrap();
        row.unwrap().1
    });
}
