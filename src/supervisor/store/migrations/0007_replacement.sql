-- A snapshot of a run that began with a full plan: which runs may give their place to it once it is stored (`any`,
-- `automatic`); none once one did, or where there was room.
ALTER TABLE snapshots ADD COLUMN replaces TEXT;
-- The start of the Supervisor that the node's connection is or was made to.
ALTER TABLE nodes ADD COLUMN linked_by BIGINT;
