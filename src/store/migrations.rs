//! The steps of the schema, embedded in the program and applied in order.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr, SqlStr};

/// Number, description and text of every step, as their files are named.
const SQLITE: [(i64, &str, &str); 11] = [
    (
        1,
        "recommendations and traces",
        include_str!("../../migrations/sqlite/0001_recommendations_and_traces.sql"),
    ),
    (2, "devices", include_str!("../../migrations/sqlite/0002_devices.sql")),
    (3, "inputs of jobs", include_str!("../../migrations/sqlite/0003_inputs_of_jobs.sql")),
    (4, "tokens", include_str!("../../migrations/sqlite/0004_tokens.sql")),
    (5, "asks", include_str!("../../migrations/sqlite/0005_asks.sql")),
    (6, "models", include_str!("../../migrations/sqlite/0006_models.sql")),
    (
        7,
        "checksums and counts",
        include_str!("../../migrations/sqlite/0007_checksums_and_counts.sql"),
    ),
    (8, "outcomes", include_str!("../../migrations/sqlite/0008_outcomes.sql")),
    (9, "memory of jobs", include_str!("../../migrations/sqlite/0009_memory_of_jobs.sql")),
    (10, "deployments", include_str!("../../migrations/sqlite/0010_deployments.sql")),
    (11, "replicas", include_str!("../../migrations/sqlite/0011_replicas.sql")),
];

/// The same for `PostgreSQL`, which no earlier program wrote.
const POSTGRES: [(i64, &str, &str); 1] =
    [(11, "replicas", include_str!("../../migrations/postgres/0011_replicas.sql"))];

/// What brings a database file to the schema of this program.
pub(super) fn sqlite() -> Migrator {
    Migrator::with_migrations(SQLITE.map(step).into())
}

/// What brings a database of `PostgreSQL` there; of several processes that start together one does it.
pub(super) fn postgres() -> Migrator {
    Migrator::with_migrations(POSTGRES.map(step).into())
}

fn step((number, description, text): (i64, &'static str, &'static str)) -> Migration {
    let text: SqlStr = text.into_sql_str();
    Migration::new(number, description.into(), MigrationType::Simple, text, false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

    use super::*;
    use crate::config::{Storage, Synchronous};
    use crate::store::Store;
    use crate::store::engine::reading;
    use crate::store::keys::Key;
    use crate::wire::job::Status;
    use crate::wire::listing::CheckedListQuery;

    fn embedded_as_they_are(folder: &str, steps: &[(i64, &str, &str)]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
        let files: BTreeSet<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let name =
            |number: &i64, about: &str| format!("{number:04}_{}.sql", about.replace(' ', "_"));
        let embedded = steps.iter().map(|(number, about, _)| name(number, about)).collect();
        assert_eq!(files, embedded);
        for (number, about, text) in steps {
            assert_eq!(*text, std::fs::read_to_string(folder.join(name(number, about))).unwrap());
        }
    }

    #[test]
    fn every_file_is_embedded_under_its_name() {
        embedded_as_they_are("sqlite", &SQLITE);
        embedded_as_they_are("postgres", &POSTGRES);
        // Both engines end with the same step.
        assert_eq!(SQLITE.last().map(|step| step.1), POSTGRES.last().map(|step| step.1));
    }

    async fn schema(store: &Store) -> Vec<(String, String)> {
        let all = "select name, coalesce(sql, '') from sqlite_master where name not like '_sqlx%'
                   and name not like 'sqlite_%' order by name";
        reading!(store, db => sqlx::query_as(all).fetch_all(db).await.unwrap())
    }

    /// From the seventh step on an ask says what the answer is, which those of before must be given.
    const BEFORE_COUNTS: usize = 6;
    /// From the fifth step on asks are of their own, which those of before must become.
    const BEFORE_ASKS: usize = 4;

    /// The database that a program with so many steps has left.
    async fn left_by(n_steps: usize, file: &Path) {
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let steps: Vec<Migration> = SQLITE[..n_steps].iter().copied().map(step).collect();
        Migrator::with_migrations(steps).run(&pool).await.unwrap();
        if 0 < n_steps {
            sqlx::raw_sql(
                r#"insert into recommendation
                   (id, digest, status, model, device, strategy, created_ms, trace_ids,
                    recommendation, request)
                   values ('0192abcd-0000-7000-8000-000000000000', x'01', 'succeeded',
                    'mixtral-8x7b', 'h100-sxm', 'none', 7, '[]',
                    '{"strategy": "none", "verdict": "tie"}',
                    '{"cluster": {"devices": 4.0}, "engine": {"name": "vLLM"},
                      "workload": {"phase": "decode", "batch_size": 2}}')"#,
            )
            .execute(&pool)
            .await
            .unwrap();
            let asked = if n_steps <= BEFORE_ASKS {
                "insert into idempotency_key values
                    ('k', x'02', '0192abcd-0000-7000-8000-000000000000', 8)"
            } else {
                r#"insert into ask (id, principal, recommendation_id, created_ms, model, device,
                                    devices, engine, phase, workload, labels)
                   values ('0192abcd-0000-7000-8000-000000000000', 'local',
                    '0192abcd-0000-7000-8000-000000000000', 7, 'mixtral-8x7b', 'h100-sxm', 4, 'vllm',
                    'decode', '{"phase":"decode","batch_size":2}', '{}');
                   insert into ask_key values
                    ('local', 'k', x'02', '0192abcd-0000-7000-8000-000000000000', 8)"#
            };
            sqlx::raw_sql(asked).execute(&pool).await.unwrap();
        }
        pool.close().await;
    }

    #[tokio::test]
    async fn every_earlier_schema_is_brought_up_to_date_with_what_it_holds() {
        let mut schemas = Vec::new();
        for n_steps in 0..=SQLITE.len() {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("moe-gps.db");
            left_by(n_steps, &file).await;
            let storage = Storage {
                data_dir: dir.path().to_owned(),
                database: String::new(),
                traces: String::new(),
                trace_cache_bytes: 0,
                trace_grace_s: 0.0,
                synchronous: Synchronous::Normal,
                max_database_bytes: 0,
            };
            let store = Store::open(&storage).await.unwrap();
            schemas.push(schema(&store).await);
            let filter = CheckedListQuery { limit: 10, ..CheckedListQuery::default() };
            let listed = store.list_asks(Some("local"), &filter, 10).await.unwrap().items;
            assert_eq!(listed.len(), n_steps.min(1), "{n_steps}");
            let counts = store.count_jobs().await.unwrap();
            assert_eq!(counts.len(), 5);
            for (status, n) in counts {
                let expected = i64::from(status == Status::Succeeded && 0 < n_steps);
                assert_eq!(n, expected, "{n_steps}: {status:?}");
            }
            assert!(store.allow_giving_back(None).await.unwrap());
            let verdict = CheckedListQuery {
                verdict: Some("tie".to_owned()).filter(|_| n_steps <= BEFORE_COUNTS),
                ..filter.clone()
            };
            let found = store.list_asks(None, &verdict, 10).await.unwrap().items;
            assert_eq!(found.len(), n_steps.min(1), "{n_steps}");
            for ask in listed {
                assert_eq!((ask.created_ms, ask.labels.as_str()), (7, "{}"));
                assert_eq!((ask.engine.as_deref(), ask.devices), (Some("vllm"), Some(4)));
                assert_eq!((ask.model.as_str(), ask.device.as_str()), ("mixtral-8x7b", "h100-sxm"));
                assert_eq!(ask.workload.unwrap(), r#"{"phase":"decode","batch_size":2}"#);
                let key = Key { principal: "local", key: "k", body_digest: &[2; 32] };
                assert_eq!(store.find_key(key).await.unwrap().unwrap().recommendation_id, ask.id);
            }
            store.close().await;
        }
        assert!(schemas.windows(2).all(|pair| pair[0] == pair[1]), "{schemas:#?}");
    }
}
