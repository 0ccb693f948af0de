-- Who asked for which answer, when, and under which labels. Equal questions share one answer
-- whoever asks; it goes with the last ask.
create table ask (
    id text not null primary key,              -- UUIDv7: newer ids sort after older ones
    principal text not null,
    recommendation_id text not null references recommendation (id) on delete cascade,
    created_ms integer not null,
    -- What lists filter by; a recommendation's own row is long, and is read only for those that pass.
    model text not null,
    device text not null,
    devices integer,
    engine text,                               -- its id
    phase text,
    workload text,                             -- JSON
    labels text not null,                      -- JSON object of texts, compact, names in order
    unique (principal, recommendation_id)
) strict;
create index ask_by_principal on ask (principal, id);
create index ask_by_recommendation on ask (recommendation_id);
insert into ask (id, principal, recommendation_id, created_ms, model, device, devices, engine, phase,
                 workload, labels)
    select id, 'local', id, created_ms, model, device,
           cast(json_extract(request, '$.cluster.devices') as integer),
           lower(json_extract(request, '$.engine.name')),
           json_extract(request, '$.workload.phase'),
           json_extract(request, '$.workload'), '{}'
    from recommendation;

-- A key is its holder's own, and outlives the answer, so that another body is refused for a day.
create table ask_key (
    principal text not null,
    key text not null,
    body_digest blob not null,
    recommendation_id text not null,
    created_ms integer not null,
    primary key (principal, key)
) strict;
create index ask_key_by_time on ask_key (created_ms);
insert into ask_key (principal, key, body_digest, recommendation_id, created_ms)
    select 'local', key, body_digest, recommendation_id, created_ms from idempotency_key;
drop table idempotency_key;
