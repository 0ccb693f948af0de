-- A model that a client has registered; shipped ones stand in the program.
create table model (
    id text not null primary key,
    digest blob not null,                      -- SHA-256 of the document
    created_ms integer not null,
    document text not null                     -- JSON, id and configuration with keys in order
) strict;
