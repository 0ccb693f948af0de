-- A question and, in time, its answer. Big texts stand last so that listings never read them.
create table recommendation (
    id text not null primary key,              -- UUIDv7: newer ids sort after older ones
    digest blob not null,                      -- SHA-256 of all that decides the answer
    status text not null check (status in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    model text not null,
    device text not null,
    strategy text,                             -- the recommended one, once known
    attempt integer not null default 0,        -- how often a worker has started on it
    lease_owner text,                          -- the instance that works on it
    lease_until_ms integer,                    -- and until when nobody else may
    progress real not null default 0,
    phase text,
    created_ms integer not null,
    started_ms integer,
    finished_ms integer,
    trace_ids text not null,                   -- JSON array, in the question's order
    recommendation text,                       -- JSON, the part of the result that listings show
    problem text,                              -- JSON, why it failed
    request text not null,                     -- JSON, the question as it is echoed
    result text,                               -- JSON
    placement text                             -- JSON
) strict;

-- Equal questions share one live answer; failed and canceled ones may be asked again.
create unique index recommendation_live_digest on recommendation (digest)
    where status in ('queued', 'running', 'succeeded');
create index recommendation_by_status on recommendation (status, id);

-- Which questions need which trace, for the deletion rule and the listing filter.
create table recommendation_trace (
    trace_id text not null,
    recommendation_id text not null references recommendation (id) on delete cascade,
    primary key (trace_id, recommendation_id)
) strict;
create index recommendation_trace_by_recommendation on recommendation_trace (recommendation_id);

-- Answers to repeated requests that carry the same Idempotency-Key.
create table idempotency_key (
    key text not null primary key,
    body_digest blob not null,
    recommendation_id text not null references recommendation (id) on delete cascade,
    created_ms integer not null
) strict;
create index idempotency_key_by_recommendation on idempotency_key (recommendation_id);

-- An uploaded routing trace; its routes are a file in the data directory.
create table trace (
    id text not null primary key,              -- derived from the digest of the content
    digest blob not null,
    name text,
    model text,
    tokens integer not null,
    sequences integer not null,
    steps integer not null,
    layers integer not null,
    experts integer not null,
    top_k integer not null,
    has_token_ids integer not null,
    embedding_digest blob,
    stored_bytes integer not null,
    created_ms integer not null,
    summary text not null                      -- JSON, the public summary
) strict;

-- One row that the readiness probe writes.
create table probe (
    id integer not null primary key check (id = 1),
    written_ms integer not null
) strict;
