-- The ledger of one run, format 1. Rows are only ever added. `settings` and `record` are JSON.

CREATE TABLE run (
    number   INTEGER PRIMARY KEY CHECK (number = 1),  -- one row
    settings TEXT NOT NULL CHECK (json_valid(settings))
) STRICT;

-- What is finished, in the order in which it was. Keys compare byte by byte, as Rust compares them.
CREATE TABLE finished (
    number  INTEGER PRIMARY KEY,
    key     TEXT NOT NULL UNIQUE,
    record  TEXT NOT NULL CHECK (json_valid(record)),
    seconds REAL NOT NULL
) STRICT;

CREATE TRIGGER run_stays BEFORE DELETE ON run BEGIN SELECT RAISE(ABORT, 'a run keeps its settings'); END;
CREATE TRIGGER run_is_final BEFORE UPDATE ON run BEGIN SELECT RAISE(ABORT, 'a run keeps its settings'); END;
CREATE TRIGGER finished_stays BEFORE DELETE ON finished BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
CREATE TRIGGER finished_is_final BEFORE UPDATE ON finished BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
