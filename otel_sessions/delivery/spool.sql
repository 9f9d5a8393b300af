-- The spool of one store: batches on their way, shared by all processes of this machine that write to that store.
-- Bodies stand apart, in pieces, so that neither counting attempts nor joining batches rewrites megabytes.
CREATE TABLE about (store TEXT NOT NULL);

-- One row per running process that uses the spool. "started" is the process's start time as the system counts it.
CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    machine TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started INTEGER NOT NULL,
    seen REAL NOT NULL
);

-- "owner" sends the batch, 0 is nobody, "maker" made it. "size" is the bytes of its body, "bytes" those of its pieces here.
-- Times are Unix seconds.
CREATE TABLE batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,
    spans INTEGER NOT NULL,
    size INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created REAL NOT NULL,
    maker INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    adopted INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    attempted_at REAL NOT NULL DEFAULT 0,
    revivals INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX batches_to_send ON batches (owner, adopted, attempts, id);
CREATE INDEX batches_made ON batches (maker);

-- What the destination refused for good, "revivable" if the fault was the destination's and not the batch's.
CREATE TABLE dead (
    id INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    spans INTEGER NOT NULL,
    size INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created REAL NOT NULL,
    maker INTEGER NOT NULL,
    revivable INTEGER NOT NULL,
    revivals INTEGER NOT NULL,
    died REAL NOT NULL,
    reason TEXT NOT NULL
);

-- The pieces of a body, in the order of their ids, each LZ4, and whose they are.
CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE pieces (id INTEGER PRIMARY KEY, batch INTEGER NOT NULL);
CREATE INDEX pieces_of ON pieces (batch);
