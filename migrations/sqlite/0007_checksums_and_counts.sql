-- CRC-32 of what an answer is made of, checked when it is read; null where an earlier version wrote.
alter table recommendation add column verdict text;
alter table recommendation add column request_crc integer;
alter table recommendation add column inputs_crc integer;
alter table recommendation add column summary_crc integer;
alter table recommendation add column problem_crc integer;
alter table recommendation add column result_crc integer;
alter table recommendation add column placement_crc integer;
alter table trace add column summary_crc integer;
update recommendation set verdict = json_extract(recommendation, '$.verdict')
    where recommendation is not null;

-- What lists filter by stands in the ask, so that those that do not pass cost no look elsewhere.
alter table ask add column status text;
alter table ask add column strategy text;
alter table ask add column verdict text;
alter table ask add column summary_crc integer;
update ask set (status, strategy, verdict) =
    (select status, strategy, verdict from recommendation where id = ask.recommendation_id);
create index ask_by_model on ask (model, id);
create index ask_by_device on ask (device, id);
-- Nearly all succeed, and are found in the order of ids.
create index ask_by_status on ask (status, id) where status <> 'succeeded';

-- How many recommendations there are of each status, kept so that nobody has to count them.
create table job_count (
    status text not null primary key,
    n integer not null
) strict;
insert into job_count (status, n)
    select all_of.status, count(recommendation.id)
    from (select 'queued' as status union select 'running' union select 'succeeded'
          union select 'failed' union select 'canceled') as all_of
    left join recommendation on recommendation.status = all_of.status
    group by all_of.status;
create trigger recommendation_inserted after insert on recommendation begin
    update job_count set n = n + 1 where status = new.status;
end;
create trigger recommendation_deleted after delete on recommendation begin
    update job_count set n = n - 1 where status = old.status;
end;
create trigger recommendation_moved after update of status on recommendation
when old.status <> new.status begin
    update job_count set n = n - 1 where status = old.status;
    update job_count set n = n + 1 where status = new.status;
    update ask set status = new.status, strategy = new.strategy, verdict = new.verdict,
                   summary_crc = new.summary_crc
        where recommendation_id = new.id;
end;
