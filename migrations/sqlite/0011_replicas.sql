-- The revision of the numbers under which a question was accepted: an older program leaves it to a newer
-- one. And which stored form of a trace is in force, by which replicas find it.
alter table recommendation add column revision integer not null default 0;
create index recommendation_queue on recommendation (revision desc, id) where status = 'queued';
-- The span of the request that asked first, as a header names it.
alter table recommendation add column traceparent text;
alter table trace add column version text;
