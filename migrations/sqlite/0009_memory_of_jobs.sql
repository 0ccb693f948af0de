-- What the computation takes by its estimate, bytes.
alter table recommendation add column memory_bytes integer not null default 0;
-- Whether the process died while it ran: 1 where nothing else may run beside it, 2 while it runs so.
alter table recommendation add column alone integer not null default 0;
