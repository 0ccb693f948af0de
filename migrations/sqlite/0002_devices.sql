-- A device profile that a client has registered; shipped ones stand in the program.
create table device (
    id text not null primary key,              -- the id inside the profile
    digest blob not null,                      -- SHA-256 of the document
    created_ms integer not null,
    document text not null                     -- JSON, the profile with its keys in order
) strict;
