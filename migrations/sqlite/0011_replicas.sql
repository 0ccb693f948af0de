-- The revision of the numbers under which a question was accepted: an older program leaves it to a newer
-- one. And which stored form of a trace is in force, by which replicas find it.
alter table recommendation add column revision integer not null default 0;
-- Attempts that do not count; an attempt's number itself only rises, so that it tells workers apart.
alter table recommendation add column forgiven integer not null default 0;
-- Which database this is, so that an object store knows its own.
create table identity (
    id integer not null primary key check (id = 1),
    name text not null
) strict;
-- The span of the request that asked first, as a header names it.
alter table recommendation add column traceparent text;
alter table trace add column version text;
