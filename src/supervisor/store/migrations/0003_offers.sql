-- Snapshots that a node took by itself.

-- The node's number for it.
ALTER TABLE snapshots ADD COLUMN offer BIGINT;
-- Why and when, as JSON.
ALTER TABLE snapshots ADD COLUMN cause TEXT;
CREATE INDEX snapshots_offered ON snapshots (node_id, offer) WHERE offer IS NOT NULL;
