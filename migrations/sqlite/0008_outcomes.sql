-- What was measured after an answer, with what the answer had said.
create table outcome (
    id text not null primary key,              -- UUIDv7: newer ids sort after older ones
    recommendation_id text not null references recommendation (id) on delete cascade,
    principal text not null,
    created_ms integer not null,
    strategy text not null,
    quantity text not null check (quantity in ('step_s', 'tpot_s')),
    measured_s real not null,
    forecast_s real,
    steps integer,
    note text
) strict;
create index outcome_by_recommendation on outcome (recommendation_id, id);
