-- Deployments that are removed, and enrolments that serve several nodes.

ALTER TABLE deployments ADD COLUMN removed_at BIGINT;

-- How many nodes a token may serve, and how many it has served.
ALTER TABLE enrolments ADD COLUMN uses BIGINT NOT NULL DEFAULT 1;
ALTER TABLE enrolments ADD COLUMN used BIGINT NOT NULL DEFAULT 0;
UPDATE enrolments SET used = 1 WHERE used_at IS NOT NULL;

-- The enrolment that a node came by.
ALTER TABLE nodes ADD COLUMN enrolment_id BIGINT;
UPDATE nodes SET enrolment_id = (SELECT enrolments.id FROM enrolments WHERE enrolments.node_id = nodes.id);
ALTER TABLE enrolments DROP COLUMN node_id;
