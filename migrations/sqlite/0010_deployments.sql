-- A deployment: a named ask with the map in force, judged on windows of loads that are posted to it.
create table deployment (
    name text not null primary key,
    principal text not null,                   -- whose asks its judgements are
    version integer not null,                  -- counts what it was told to be
    created_ms integer not null,
    updated_ms integer not null,
    is_due integer not null,                   -- 1 where it changed since it was last judged
    judging text,                              -- the recommendation that judges it now
    judging_in_order text,                     -- the same without the map in force, where that is asked
    judging_ms integer,                        -- when the last judgement began
    judged_window integer not null,            -- the newest window that a judgement has seen
    spec text not null,                        -- JSON: question, labels, policy
    current text,                              -- JSON, the map in force
    state text not null                        -- JSON: conditions, what they rest on, last judgement
) strict;

-- Loads of a deployment; each is a stored trace.
create table deployment_window (
    id integer not null primary key autoincrement,
    deployment text not null references deployment (name) on delete cascade,
    trace_id text not null,
    is_own integer not null,                   -- 1 where the trace goes with it
    phase text,
    from_ms integer,
    to_ms integer not null,
    posted_ms integer not null,
    unique (deployment, trace_id)
) strict;
create index deployment_window_by_trace on deployment_window (trace_id);

create table deployment_judgement (
    id text not null primary key,              -- UUIDv7: newer ids sort after older ones
    deployment text not null references deployment (name) on delete cascade,
    recommendation_id text not null,
    body text not null                         -- JSON
) strict;
create index deployment_judgement_by_deployment on deployment_judgement (deployment, id);
