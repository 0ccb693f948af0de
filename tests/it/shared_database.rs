//! One database, two engines, several processes: what each may do to the others' jobs, traces and asks.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use moe_gps::config::{Storage, Synchronous};
use moe_gps::store::Store;
use moe_gps::store::asks::{ListedQuestion, NewAsk, Withdrawn};
use moe_gps::store::devices::{DeviceRecord, Kind, Registration};
use moe_gps::store::jobs::{Inserted, JobRecord, Lease, NewJob, Outcome};
use moe_gps::store::traces::{TraceDeletion, TraceRecord};
use moe_gps::wire::job::Status;
use moe_gps::wire::listing::CheckedListQuery;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgPoolOptions;

use crate::databases;
use crate::support::{PATIENCE, TestApp};

fn storage(dir: &Path, database: &str) -> Storage {
    Storage {
        data_dir: dir.to_owned(),
        database: database.to_owned(),
        traces: String::new(),
        trace_cache_bytes: 0,
        trace_grace_s: 0.0,
        synchronous: Synchronous::Normal,
        max_database_bytes: 0,
    }
}

fn job(n: u32) -> JobRecord {
    JobRecord {
        id: format!("0192abcd-0000-7000-8000-{n:012}"),
        digest: Sha256::digest(n.to_le_bytes()).to_vec(),
        status: Status::Queued,
        model: "mixtral-8x7b".to_owned(),
        device: "h100-sxm".to_owned(),
        attempt: 0,
        progress: 0.0,
        phase: None,
        created_ms: i64::from(n),
        started_ms: None,
        finished_ms: None,
        trace_ids: "[]".to_owned(),
        problem: None,
        request: "{}".to_owned(),
        result: None,
        inputs: None,
        traceparent: None,
        memory_bytes: 0,
        alone: 0,
    }
}

async fn insert(store: &Store, job: &JobRecord, trace_ids: &[String], revision: u32) -> Inserted {
    let listed = ListedQuestion::default();
    let ask = NewAsk {
        id: &job.id,
        principal: "local",
        labels: None,
        created_ms: job.created_ms,
        listed: &listed,
    };
    let new = NewJob {
        job,
        ask,
        trace_ids,
        key: None,
        lease: None,
        revision,
        queue_limit: 10_000,
        principal_limit: None,
    };
    store.insert_job(new).await.unwrap()
}

fn trace(id: &str) -> TraceRecord {
    TraceRecord {
        id: id.to_owned(),
        digest: vec![1],
        name: None,
        model: None,
        tokens: 1,
        sequences: 1,
        steps: 0,
        layers: 1,
        experts: 8,
        top_k: 2,
        has_token_ids: false,
        embedding_digest: None,
        version: None,
        stored_bytes: 1,
        created_ms: 1,
        summary: "{}".to_owned(),
    }
}

const LEASE: Lease<'_> = Lease { owner: "me", until_ms: 1 };

/// Both engines, as far as there are any, each with a database of its own.
fn engines(what: &str) -> Vec<(tempfile::TempDir, String)> {
    let here = Some(String::new()).into_iter().chain(databases::fresh(what));
    here.map(|database| (tempfile::tempdir().unwrap(), database)).collect()
}

#[tokio::test]
async fn an_older_program_leaves_jobs_to_a_newer_one() {
    for (dir, database) in engines("a rolling update") {
        let alone = database.is_empty();
        let store = Store::open(&storage(dir.path(), &database)).await.unwrap();
        for (n, revision) in [(1, 5), (2, 7), (3, 6), (4, 7)] {
            assert_eq!(insert(&store, &job(n), &[], revision).await, Inserted::New);
        }
        let claimed = async |revision| {
            let job = store.claim_job(LEASE, revision, 1).await.unwrap();
            job.map(|job| job.created_ms)
        };
        if alone {
            // Nobody else is there to take them.
            for n in 1..=4 {
                assert_eq!(claimed(6).await, Some(n));
            }
            continue;
        }
        // Its own first, in order; then those of before, the newest of them first.
        assert_eq!(claimed(6).await, Some(3));
        assert_eq!(claimed(7).await, Some(2));
        assert_eq!(claimed(7).await, Some(4));
        assert_eq!(claimed(4).await, None);
        assert_eq!(claimed(7).await, Some(1));
        assert_eq!(claimed(7).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_claimed_twice() {
    const JOBS: u32 = 400;
    for (dir, database) in engines("claims") {
        let store = Store::open(&storage(dir.path(), &database)).await.unwrap();
        for n in 0..JOBS {
            insert(&store, &job(n), &[], 6).await;
        }
        let claiming = (0..4).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut claimed = Vec::new();
                while let Some(job) = store.claim_job(LEASE, 6, 1).await.unwrap() {
                    assert_eq!(job.attempt, 1);
                    claimed.push(job.id);
                }
                claimed
            })
        });
        let mut claimed: Vec<String> =
            join_all(claiming).await.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(claimed.len(), JOBS as usize);
        claimed.sort();
        claimed.dedup();
        assert_eq!(claimed.len(), JOBS as usize, "twice");
    }
}

/// What `PostgreSQL` does with the statement that is enough for one writer: the reason of the lock.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_lock_a_claim_takes_a_job_twice() {
    let Some(database) = databases::fresh("claims without a lock") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&storage(dir.path(), &database)).await.unwrap();
    insert(&store, &job(1), &[], 6).await;
    let pool = PgPoolOptions::new().connect(&database).await.unwrap();
    let claim = "update recommendation set status = 'running', attempt = attempt + 1
                 where id = (select id from recommendation where status = 'queued' order by id limit 1)
                 returning id";
    let mut first = pool.begin().await.unwrap();
    let taken: Option<String> =
        sqlx::query_scalar(claim).fetch_optional(&mut *first).await.unwrap();
    assert!(taken.is_some());
    // The second one has looked before the first one is done, and waits for the row.
    let pool = pool.clone();
    let second = tokio::spawn(async move {
        sqlx::query_scalar::<_, String>(claim).fetch_optional(&pool).await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), taken, "it claims what was claimed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_a_job_needs_stays_and_one_that_is_gone_is_not_needed() {
    for (dir, database) in engines("traces and jobs that meet") {
        let store = Store::open(&storage(dir.path(), &database)).await.unwrap();
        let (mut kept, mut gone) = (0, 0);
        for n in 0..150 {
            let id = format!("trace-{n}");
            store.put_trace(&trace(&id)).await.unwrap();
            let (ids, job) = ([id.clone()], job(n));
            let (inserted, deleted) =
                tokio::join!(insert(&store, &job, &ids, 6), store.delete_trace(&id));
            match (inserted, deleted.unwrap()) {
                (Inserted::New, TraceDeletion::Needed(1)) => kept += 1,
                (Inserted::TraceGone, TraceDeletion::Done) => gone += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kept + gone, 150);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_two_who_withdraw_takes_the_recommendation_with_it() {
    for (dir, database) in engines("asks that are withdrawn at once") {
        let store = Store::open(&storage(dir.path(), &database)).await.unwrap();
        let listed = ListedQuestion::default();
        for n in 0..100 {
            let job = job(n);
            insert(&store, &job, &[], 6).await;
            let other = format!("0192abcd-0000-7000-9000-{n:012}");
            let ask = NewAsk {
                id: &other,
                principal: "other",
                labels: None,
                created_ms: 1,
                listed: &listed,
            };
            assert!(store.join_ask(&job.id, ask).await.unwrap());
            let (one, two) = tokio::join!(
                store.withdraw("local", &job.id, false, 9),
                store.withdraw("other", &job.id, false, 9),
            );
            let mut both = [one.unwrap(), two.unwrap()];
            both.sort_by_key(|withdrawn| *withdrawn == Withdrawn::Canceled);
            assert_eq!(both, [Withdrawn::Ask, Withdrawn::Canceled]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_of_registered_devices_holds_for_all_at_once() {
    for (dir, database) in engines("a bound") {
        let store = Store::open(&storage(dir.path(), &database)).await.unwrap();
        let registering = (0..24).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let device = DeviceRecord {
                    id: format!("device-{n}"),
                    digest: vec![1],
                    created_ms: 1,
                    document: "{}".to_owned(),
                };
                store.insert_registered(Kind::Device, &device, 5).await.unwrap()
            })
        });
        let ended = join_all(registering).await;
        let new = ended.into_iter().filter(|one| *one.as_ref().unwrap() == Registration::New);
        assert_eq!(new.count(), 5);
    }
}

#[tokio::test]
async fn leases_end_by_the_clock_of_the_database() {
    let Some(database) = databases::fresh("the clock of the database") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&storage(dir.path(), &database)).await.unwrap();
    let pool = PgPoolOptions::new().connect(&database).await.unwrap();
    let look = "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint)";
    let theirs: i64 = sqlx::query_scalar(look).fetch_one(&pool).await.unwrap();
    // Whatever this host takes the time for.
    for here in [0, theirs + 3_600_000] {
        let off = store.clock_ms(here) - theirs;
        assert!((-1000..10_000).contains(&off), "{off} ms off");
    }
}

/// Two processes as far as the database can tell, of the same database.
async fn pair(flags: &[&str]) -> Option<(TestApp, TestApp)> {
    let database = databases::fresh("a pair of replicas")?;
    let flags = [flags, &["--database", &database]].concat();
    Some((TestApp::start_with(&flags).await, TestApp::start_with(&flags).await))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_one_replica_is_told_what_another_has_ended() {
    let Some((one, other)) = pair(&[]).await else { return };
    let id = one.submit(&json!({"do": "wait", "until": one.gate("go")})).await;
    one.until(&id, "running").await;
    let path = format!("/v1/recommendations/{id}");
    let waiting = async {
        let request = axum::http::Request::get(&path).header("prefer", "wait=60");
        other.send(request.body(axum::body::Body::empty()).unwrap()).await
    };
    let opening = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::fs::write(one.gate("go"), "").unwrap();
        Instant::now()
    };
    let (answer, opened) = tokio::join!(waiting, opening);
    assert_eq!(answer.json()["status"], "succeeded");
    assert!(opened.elapsed() < Duration::from_secs(10), "told, not timed out");
    // Both list the one answer, and an equal question is answered from it.
    let again = other.ask(&json!({"do": "wait", "until": one.gate("go")}), &[]).await;
    assert_eq!((again.status.as_u16(), &again.json()["id"]), (200, &json!(id)));
    assert_eq!(other.advisor.begun.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_takes_nothing_from_one_that_lives() {
    let Some(database) = databases::fresh("leases of the living") else { return };
    let flags = ["--database", &database, "--lease-s", "1"];
    let one = TestApp::start_with(&flags).await;
    let id = one.submit(&json!({"do": "wait", "until": one.gate("go")})).await;
    one.until(&id, "running").await;
    let other = TestApp::start_with(&flags).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(other.get(&format!("/v1/recommendations/{id}")).await.json()["status"], "running");
    std::fs::write(one.gate("go"), "").unwrap();
    other.until(&id, "succeeded").await;
    let begun = |app: &TestApp| app.advisor.begun.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!((begun(&one), begun(&other)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_at_one_replica_ends_the_computation_of_another() {
    let Some((one, other)) = pair(&["--workers", "1"]).await else { return };
    let id = one.submit(&json!({"do": "wait"})).await;
    one.until(&id, "running").await;
    let canceled = other.call("DELETE", &format!("/v1/recommendations/{id}")).await;
    assert_eq!(canceled.status, 200);
    // The only worker is free again.
    let began = Instant::now();
    while one.app.board.n_idle() == 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_job_is_taken_by_whichever_replica_is_idle() {
    let Some((one, other)) = pair(&["--workers", "1"]).await else { return };
    one.hold_worker("go").await;
    let began = Instant::now();
    // More than one: an idle worker takes the first at once, the others wait for a while.
    for n in 0..5 {
        let answer = one.ask_and_wait(&json!({"do": "answer", "n": n})).await;
        assert_eq!(answer.json()["status"], "succeeded");
    }
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(other.advisor.begun.load(std::sync::atomic::Ordering::SeqCst), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_computed_while_the_database_is_away_is_kept() {
    let Some(database) = databases::fresh("a job while the database is away") else { return };
    let flags = ["--database", &database, "--lease-s", "1"];
    let (one, other) = (TestApp::start_with(&flags).await, TestApp::start_with(&flags).await);
    let id = one.submit(&json!({"do": "wait", "until": one.gate("go")})).await;
    one.until(&id, "running").await;
    databases::away(&database);
    // Longer than the lease.
    tokio::time::sleep(Duration::from_secs(4)).await;
    std::fs::write(one.gate("go"), "").unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    databases::back(&database);
    let began = Instant::now();
    let job = loop {
        let answer = other.get(&format!("/v1/recommendations/{id}")).await;
        if answer.status == 200 && answer.json()["status"] == "succeeded" {
            break answer.json();
        }
        assert!(began.elapsed() < PATIENCE, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(job["id"], id);
    let begun = |app: &TestApp| app.advisor.begun.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!((begun(&one), begun(&other)), (1, 0), "nobody took it from the one that computed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ask_that_joins_a_job_that_ends_ends_with_it() {
    for (dir, database) in engines("asks and ends that meet") {
        let store = Store::open(&storage(dir.path(), &database)).await.unwrap();
        let listed = ListedQuestion::default();
        for n in 0..100 {
            let new = job(n);
            insert(&store, &new, &[], 6).await;
            let claimed = store.claim_job(LEASE, 6, 1).await.unwrap().unwrap();
            let other = format!("0192abcd-0000-7000-9000-{n:012}");
            let ask = NewAsk {
                id: &other,
                principal: "other",
                labels: None,
                created_ms: 1,
                listed: &listed,
            };
            let ended = Outcome {
                status: Status::Failed,
                strategy: None,
                verdict: None,
                recommendation: None,
                result: None,
                placement: None,
                problem: Some("{}".to_owned()),
            };
            let (joined, stored) = tokio::join!(
                store.join_ask(&new.id, ask),
                store.finish_job(&claimed, LEASE.owner, &ended, 2),
            );
            assert!(joined.unwrap() && stored.unwrap());
        }
        let filter = CheckedListQuery { limit: 500, ..CheckedListQuery::default() };
        let listed = store.list_asks(None, &filter, 500).await.unwrap().items;
        assert_eq!(listed.len(), 200);
        assert!(listed.iter().all(|ask| ask.status == "failed"), "{listed:?}");
    }
}

#[tokio::test]
async fn a_text_with_a_nul_is_refused_on_either_engine() {
    let app = TestApp::start().await;
    app.get("/v1/recommendations/%00").await.problem(404, "not-found");
    app.get("/v1/recommendations?q=a%00b").await.problem(422, "invalid-question");
    let answer = app.ask(&json!({"do": "answer", "model": "a\0b"}), &[]).await;
    let problem = answer.problem(400, "malformed");
    assert!(problem["detail"].as_str().unwrap().contains("NUL"), "{problem}");
    // What only looks like one is none.
    let answer = app.ask_and_wait(&json!({"do": "answer", "n": "\\u0000"})).await;
    assert_eq!(answer.status, 200);
}

/// What `PostgreSQL` does without the locks on the trace: the reason of both.
#[tokio::test]
async fn without_its_lock_a_trace_goes_that_a_job_needs() {
    let Some(database) = databases::fresh("a trace without a lock") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&storage(dir.path(), &database)).await.unwrap();
    store.put_trace(&trace("needed")).await.unwrap();
    insert(&store, &job(1), &[], 6).await;
    let pool = PgPoolOptions::new().connect(&database).await.unwrap();
    let (mut deleting, mut linking) = (pool.begin().await.unwrap(), pool.begin().await.unwrap());
    let count = "select count(*) from recommendation_trace where trace_id = 'needed'";
    let needed: i64 = sqlx::query_scalar(count).fetch_one(&mut *deleting).await.unwrap();
    assert_eq!(needed, 0);
    let link = "insert into recommendation_trace (trace_id, recommendation_id)
                select trace.id, recommendation.id from trace, recommendation";
    assert_eq!(sqlx::query(link).execute(&mut *linking).await.unwrap().rows_affected(), 1);
    sqlx::query("delete from trace where id = 'needed'").execute(&mut *deleting).await.unwrap();
    deleting.commit().await.unwrap();
    linking.commit().await.unwrap();
    let needed: i64 = sqlx::query_scalar(count).fetch_one(&pool).await.unwrap();
    assert_eq!(needed, 1, "the job needs it");
    assert!(store.find_trace("needed").await.unwrap().is_none(), "and it is gone");
}
