-- PostgreSQL begins here: the whole schema as the steps for SQLite up to this one leave it. What every
-- column means stands there. Ids are compared byte by byte, so that order and cursors are the same.
create table recommendation (
    id text collate "C" not null primary key,
    digest bytea not null,
    status text not null check (status in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    model text not null,
    device text not null,
    strategy text,
    verdict text,
    attempt bigint not null default 0,
    forgiven bigint not null default 0,
    lease_owner text,
    lease_until_ms bigint,
    progress double precision not null default 0,
    phase text,
    created_ms bigint not null,
    started_ms bigint,
    finished_ms bigint,
    trace_ids text not null,
    recommendation text,
    problem text,
    request text not null,
    result text,
    placement text,
    inputs text,
    request_crc bigint,
    inputs_crc bigint,
    summary_crc bigint,
    problem_crc bigint,
    result_crc bigint,
    placement_crc bigint,
    memory_bytes bigint not null default 0,
    alone bigint not null default 0,
    revision bigint not null default 0,
    traceparent text
);
-- Progress is written twice a second; room in the page keeps that from growing the indexes.
alter table recommendation set (fillfactor = 80);
create unique index recommendation_live_digest on recommendation (digest)
    where status in ('queued', 'running', 'succeeded');
-- Those that are not done are few among many; all are found by their ids.
create index recommendation_by_status on recommendation (status, id) where status <> 'succeeded';
create index recommendation_queue on recommendation (revision desc, id) where status = 'queued';

create table recommendation_trace (
    trace_id text collate "C" not null,
    recommendation_id text collate "C" not null references recommendation (id) on delete cascade,
    primary key (trace_id, recommendation_id)
);
create index recommendation_trace_by_recommendation on recommendation_trace (recommendation_id);

create table trace (
    id text collate "C" not null primary key,
    digest bytea not null,
    name text,
    model text,
    tokens bigint not null,
    sequences bigint not null,
    steps bigint not null,
    layers bigint not null,
    experts bigint not null,
    top_k bigint not null,
    has_token_ids boolean not null,
    embedding_digest bytea,
    stored_bytes bigint not null,
    created_ms bigint not null,
    summary text not null,
    summary_crc bigint,
    version text
);

create table identity (
    id bigint not null primary key check (id = 1),
    name text not null
);

create table probe (
    id bigint not null primary key check (id = 1),
    written_ms bigint not null
);

create table device (
    id text collate "C" not null primary key,
    digest bytea not null,
    created_ms bigint not null,
    document text not null
);

create table model (
    id text collate "C" not null primary key,
    digest bytea not null,
    created_ms bigint not null,
    document text not null
);

create table token (
    id text collate "C" not null primary key,
    digest bytea not null,
    principal text not null,
    scope text not null check (scope in ('read', 'ask', 'admin')),
    created_ms bigint not null,
    revoked_ms bigint
);

create table ask (
    id text collate "C" not null primary key,
    principal text not null,
    recommendation_id text collate "C" not null references recommendation (id) on delete cascade,
    created_ms bigint not null,
    model text not null,
    device text not null,
    devices bigint,
    engine text,
    phase text,
    workload text,
    labels text not null,
    status text,
    strategy text,
    verdict text,
    summary_crc bigint,
    unique (principal, recommendation_id)
);
create index ask_by_principal on ask (principal, id);
create index ask_by_recommendation on ask (recommendation_id);
create index ask_by_model on ask (model, id);
create index ask_by_device on ask (device, id);
create index ask_by_status on ask (status, id) where status <> 'succeeded';

create table ask_key (
    principal text not null,
    key text not null,
    body_digest bytea not null,
    recommendation_id text collate "C" not null,
    created_ms bigint not null,
    primary key (principal, key)
);
create index ask_key_by_time on ask_key (created_ms);

create table outcome (
    id text collate "C" not null primary key,
    recommendation_id text collate "C" not null references recommendation (id) on delete cascade,
    principal text not null,
    created_ms bigint not null,
    strategy text not null,
    quantity text not null check (quantity in ('step_s', 'tpot_s')),
    measured_s double precision not null,
    forecast_s double precision,
    steps bigint,
    note text
);
create index outcome_by_recommendation on outcome (recommendation_id, id);

create table deployment (
    name text collate "C" not null primary key,
    principal text not null,
    version bigint not null,
    created_ms bigint not null,
    updated_ms bigint not null,
    is_due boolean not null,
    judging text,
    judging_in_order text,
    judging_ms bigint,
    judged_window bigint not null,
    spec text not null,
    current text,
    state text not null
);

create table deployment_window (
    id bigint generated always as identity primary key,
    deployment text collate "C" not null references deployment (name) on delete cascade,
    trace_id text collate "C" not null,
    is_own boolean not null,
    phase text,
    from_ms bigint,
    to_ms bigint not null,
    posted_ms bigint not null,
    unique (deployment, trace_id)
);
create index deployment_window_by_trace on deployment_window (trace_id);

create table deployment_judgement (
    id text collate "C" not null primary key,
    deployment text collate "C" not null references deployment (name) on delete cascade,
    recommendation_id text collate "C" not null,
    body text not null
);
create index deployment_judgement_by_deployment on deployment_judgement (deployment, id);

-- How many recommendations there are of each status: the sum of a status's rows. One row of each, changed
-- in place, would let every writer wait for the one before it.
create table job_count (
    status text not null,
    n bigint not null
);
insert into job_count (status, n)
    values ('queued', 0), ('running', 0), ('succeeded', 0), ('failed', 0), ('canceled', 0);

-- Counts, copies what lists filter by, and tells replicas what is queued and what has ended.
create function recommendation_inserted() returns trigger language plpgsql as $$
begin
    insert into job_count (status, n) values (new.status, 1);
    if new.status = 'queued' then
        perform pg_notify('moe_gps', 'queued');
    end if;
    return null;
end $$;
create trigger recommendation_inserted after insert on recommendation
    for each row execute function recommendation_inserted();

create function recommendation_deleted() returns trigger language plpgsql as $$
begin
    insert into job_count (status, n) values (old.status, -1);
    return null;
end $$;
create trigger recommendation_deleted after delete on recommendation
    for each row execute function recommendation_deleted();

create function recommendation_moved() returns trigger language plpgsql as $$
begin
    insert into job_count (status, n) values (old.status, -1), (new.status, 1);
    update ask set status = new.status, strategy = new.strategy, verdict = new.verdict,
                   summary_crc = new.summary_crc
        where recommendation_id = new.id;
    if new.status = 'queued' then
        perform pg_notify('moe_gps', 'queued');
    elsif new.status <> 'running' then
        perform pg_notify('moe_gps', new.id);
    end if;
    return null;
end $$;
create trigger recommendation_moved after update of status on recommendation
    for each row when (old.status is distinct from new.status)
    execute function recommendation_moved();

create function deployment_changed() returns trigger language plpgsql as $$
begin
    perform pg_notify('moe_gps', 'deployments');
    return null;
end $$;
create trigger deployment_changed after insert or update or delete on deployment
    for each statement execute function deployment_changed();
create trigger deployment_changed after insert on deployment_window
    for each statement execute function deployment_changed();
