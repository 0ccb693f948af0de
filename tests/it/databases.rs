//! The PostgreSQL that tests use, where there is one, and the engine on which stories are told.
//!
//! `MOE_GPS_TEST_DATABASE_URL` names a server, in which every test makes a database of its own. With
//! `MOE_GPS_TEST_ENGINE=postgres` the service of every story keeps its answers there.

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// The address of a new database; without a server it says what is left out.
pub(crate) fn fresh(what: &str) -> Option<String> {
    let Ok(server) = std::env::var("MOE_GPS_TEST_DATABASE_URL") else {
        println!("skipped: {what} needs PostgreSQL; name one in MOE_GPS_TEST_DATABASE_URL");
        return None;
    };
    let name = format!("t{}", uuid::Uuid::now_v7().simple());
    execute(&server, &format!("create database {name}"));
    let (host, _) = server.rsplit_once('/').unwrap();
    Some(format!("{host}/{name}"))
}

/// Does something in a database, also where a runtime is at work.
pub(crate) fn execute(address: &str, statement: &str) {
    let (address, statement) = (address.to_owned(), statement.to_owned());
    let done = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&address).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    });
    done.join().unwrap();
}

/// Breaks all connections to a database, and lets none in.
pub(crate) fn away(address: &str) {
    let (server, name) = address.rsplit_once('/').unwrap();
    let refuse = format!(
        "alter database {name} allow_connections false;
         select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}';"
    );
    execute(&format!("{server}/postgres"), &refuse);
}

/// Lets connections in again.
pub(crate) fn back(address: &str) {
    let (server, name) = address.rsplit_once('/').unwrap();
    let allow = format!("alter database {name} allow_connections true");
    execute(&format!("{server}/postgres"), &allow);
}

/// The flags by which the service in a directory keeps its answers in the engine of this run, in one
/// database as long as the directory lasts.
pub(crate) fn flags(dir: &Path) -> Vec<String> {
    if std::env::var("MOE_GPS_TEST_ENGINE").as_deref() != Ok("postgres") {
        return Vec::new();
    }
    let file = dir.join("database-of-the-test");
    let address = std::fs::read_to_string(&file).unwrap_or_else(|_| {
        let address = fresh("this engine").expect("MOE_GPS_TEST_DATABASE_URL");
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(&file, &address).unwrap();
        address
    });
    vec!["--database".to_owned(), address]
}
