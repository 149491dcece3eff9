-- The ledger of one home, format 1. Rows are only ever added; the one thing that changes is `active`.
-- `record` and `result` are JSON; what is worth an index or a look with the sqlite3 shell is derived from them,
-- so that it cannot say anything else.

CREATE TABLE entries (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL CHECK (kind IN ('kept', 'discarded', 'refused', 'rollback')),
    base_digest TEXT NOT NULL,
    parent      INTEGER,  -- the generation that was active; NULL is the base model itself
    target      INTEGER CHECK (target IS NULL OR kind = 'rollback'),  -- what a rollback made active
    adapter     TEXT CHECK ((adapter IS NULL) = (kind IN ('refused', 'rollback'))),
    record      TEXT NOT NULL CHECK (json_valid(record)),
    result      TEXT CHECK ((result IS NULL) = (kind = 'rollback')),
    time_ms     INTEGER NOT NULL GENERATED ALWAYS AS (record ->> '$.time_ms') VIRTUAL,
    domain      TEXT GENERATED ALWAYS AS (record ->> '$.context.domain') VIRTUAL,
    context     TEXT GENERATED ALWAYS AS (record ->> '$.context.name') VIRTUAL,
    FOREIGN KEY (parent, base_digest) REFERENCES generations (number, base_digest),
    FOREIGN KEY (target, base_digest) REFERENCES generations (number, base_digest)
) STRICT;

CREATE INDEX entries_by_context ON entries (context, number);

CREATE TABLE generations (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    entry       INTEGER NOT NULL UNIQUE REFERENCES entries (number),
    base_digest TEXT NOT NULL,
    parent      INTEGER,
    adapter     TEXT NOT NULL,
    UNIQUE (number, base_digest),
    FOREIGN KEY (parent, base_digest) REFERENCES generations (number, base_digest)
) STRICT;

CREATE INDEX generations_by_adapter ON generations (adapter);

-- The manifest of every adapter that a generation has.
CREATE TABLE files (
    adapter TEXT NOT NULL,
    name    TEXT NOT NULL,
    sha256  TEXT NOT NULL,
    PRIMARY KEY (adapter, name)
) STRICT, WITHOUT ROWID;

-- What is active, one row a base model; no row is the base model itself.
CREATE TABLE active (
    base_digest TEXT PRIMARY KEY,
    generation  INTEGER NOT NULL,
    FOREIGN KEY (generation, base_digest) REFERENCES generations (number, base_digest)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
CREATE TRIGGER entries_are_final BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
CREATE TRIGGER generations_stay BEFORE DELETE ON generations BEGIN SELECT RAISE(ABORT, 'generations stay'); END;
CREATE TRIGGER generations_are_final BEFORE UPDATE ON generations BEGIN SELECT RAISE(ABORT, 'generations stay'); END;
CREATE TRIGGER files_stay BEFORE DELETE ON files BEGIN SELECT RAISE(ABORT, 'manifests stay'); END;
CREATE TRIGGER files_are_final BEFORE UPDATE ON files BEGIN SELECT RAISE(ABORT, 'manifests stay'); END;
