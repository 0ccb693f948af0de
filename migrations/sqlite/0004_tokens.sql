-- Who may ask. The token itself is shown once and never kept.
create table token (
    id text not null primary key,              -- the part of the token that is no secret
    digest blob not null,                      -- SHA-256 of the whole token
    principal text not null,                   -- who holds it; several tokens may have one holder
    scope text not null check (scope in ('read', 'ask', 'admin')),
    created_ms integer not null,
    revoked_ms integer
) strict;
