-- What is old need not be looked at whenever something new arrives: it is as if it had arrived when it ended.
ALTER TABLE open_calls
UPDATE arrived_at = toDateTime64(addNanoseconds(started_at, duration_ns), 3, 'UTC')
WHERE arrived_at > toDateTime64(addNanoseconds(started_at, duration_ns), 3, 'UTC')
SETTINGS mutations_sync = 2
