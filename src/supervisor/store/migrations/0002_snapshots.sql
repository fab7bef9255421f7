-- A snapshot is an activity of a kind of its own, with what came of it beside.

-- What is asked of the node as JSON, when it is no action on a runtime.
ALTER TABLE activities ADD COLUMN work TEXT;

-- One run per deployment at a time, whichever Supervisor is asked.
CREATE UNIQUE INDEX one_snapshot_run ON async_actions (deployment_id)
    WHERE action = 'snapshot' AND finished_at IS NULL;

CREATE TABLE snapshots (
    id BIGINT PRIMARY KEY,
    run_id BIGINT NOT NULL,
    tenant_id BIGINT NOT NULL,
    division_id BIGINT NOT NULL,
    environment_id BIGINT NOT NULL,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    deployment_name TEXT NOT NULL,
    node_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    completed_at BIGINT,
    removed_at BIGINT,
    reason TEXT,
    verdict TEXT,
    size BIGINT,
    sha256 TEXT,
    upload TEXT,
    progress TEXT
);
CREATE INDEX snapshots_of_deployment ON snapshots (deployment_id, id) WHERE removed_at IS NULL;
CREATE INDEX snapshots_of_run ON snapshots (run_id, id);
CREATE INDEX snapshots_by_age ON snapshots (created_at) WHERE removed_at IS NULL;
CREATE INDEX snapshots_removed ON snapshots (removed_at) WHERE removed_at IS NOT NULL;
