-- What the names in a question led to when it was accepted (JSON): the profile of a registered
-- device, the stored form and the embedding of every trace. Forgotten when the job ends.
alter table recommendation add column inputs text;
