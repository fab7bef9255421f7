-- One text for SQLite and PostgreSQL: ids, times (milliseconds since 1970 UTC) and yes/no are BIGINT, the rest TEXT.

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE deployments (
    id BIGINT PRIMARY KEY,
    tenant_id BIGINT NOT NULL,
    division_id BIGINT NOT NULL,
    environment_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    plan TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, environment_id, name)
);

CREATE TABLE nodes (
    id BIGINT PRIMARY KEY,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    name TEXT NOT NULL,
    credential_hash TEXT NOT NULL UNIQUE,
    enrolled_at BIGINT NOT NULL,
    removed_at BIGINT,
    hello TEXT,
    hello_at BIGINT,
    last_seen_at BIGINT,
    unreachable_at BIGINT
);
CREATE INDEX nodes_of_deployment ON nodes (deployment_id, id) WHERE removed_at IS NULL;
CREATE INDEX nodes_by_last_seen ON nodes (last_seen_at) WHERE removed_at IS NULL AND unreachable_at IS NULL;

CREATE TABLE enrolments (
    id BIGINT PRIMARY KEY,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    token_hash TEXT NOT NULL UNIQUE,
    name TEXT,
    author_id BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    node_id BIGINT
);

CREATE TABLE api_keys (
    id BIGINT PRIMARY KEY,
    tenant_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    administrator BIGINT NOT NULL,
    permissions TEXT NOT NULL,
    allow_list TEXT NOT NULL,
    limited BIGINT NOT NULL,
    author_id BIGINT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE TABLE api_key_deployments (
    api_key_id BIGINT NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    deployment_id BIGINT NOT NULL REFERENCES deployments (id),
    PRIMARY KEY (api_key_id, deployment_id)
);

CREATE TABLE idempotency (
    api_key_id BIGINT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    claim BIGINT NOT NULL,
    claimed_at BIGINT NOT NULL,
    status BIGINT,
    headers TEXT,
    body TEXT,
    PRIMARY KEY (api_key_id, idempotency_key)
);
CREATE INDEX idempotency_by_age ON idempotency (claimed_at);

CREATE TABLE async_actions (
    id BIGINT PRIMARY KEY,
    tenant_id BIGINT NOT NULL,
    deployment_id BIGINT NOT NULL,
    author_id BIGINT NOT NULL,
    author TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id BIGINT NOT NULL,
    action TEXT NOT NULL,
    started_via TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    metadata TEXT NOT NULL,
    total BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    version BIGINT NOT NULL,
    cancel_requested_at BIGINT,
    finished_at BIGINT,
    finished_success BIGINT,
    finished_message TEXT,
    finished_result TEXT
);
CREATE INDEX async_actions_of_deployment ON async_actions (deployment_id, id);
CREATE INDEX async_actions_of_tenant ON async_actions (tenant_id, id);

CREATE TABLE async_action_events (
    async_action_id BIGINT NOT NULL REFERENCES async_actions (id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (async_action_id, version)
);

CREATE TABLE activities (
    id BIGINT PRIMARY KEY,
    tenant_id BIGINT NOT NULL,
    division_id BIGINT NOT NULL,
    environment_id BIGINT NOT NULL,
    deployment_id BIGINT NOT NULL,
    node_id BIGINT NOT NULL REFERENCES nodes (id),
    async_action_id BIGINT NOT NULL REFERENCES async_actions (id) ON DELETE CASCADE,
    author_id BIGINT NOT NULL,
    author TEXT NOT NULL,
    runtime TEXT NOT NULL,
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deadline_at BIGINT NOT NULL,
    delivered_at BIGINT,
    accepted_at BIGINT,
    cancel_requested_at BIGINT,
    finished_at BIGINT,
    step TEXT,
    reason TEXT,
    result TEXT
);
CREATE INDEX activities_of_deployment ON activities (deployment_id, id);
CREATE INDEX activities_of_action ON activities (async_action_id, id);
CREATE INDEX activities_open_of_node ON activities (node_id, id) WHERE finished_at IS NULL;
CREATE INDEX activities_open_by_deadline ON activities (deadline_at) WHERE finished_at IS NULL;
CREATE INDEX activities_by_end ON activities (finished_at);

CREATE TABLE heartbeats (
    node_id BIGINT NOT NULL REFERENCES nodes (id),
    at BIGINT NOT NULL,
    subject TEXT NOT NULL,
    kept BIGINT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (node_id, at, subject)
);
CREATE INDEX heartbeats_by_age ON heartbeats (at, kept);

CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    tenant_id BIGINT NOT NULL,
    actor_type TEXT NOT NULL,
    actor_id BIGINT,
    actor TEXT NOT NULL,
    address TEXT,
    request TEXT,
    action TEXT NOT NULL,
    deployment_id BIGINT,
    resource_type TEXT NOT NULL,
    resource_id BIGINT,
    detail TEXT NOT NULL
);
CREATE INDEX audit_of_tenant ON audit (tenant_id, id);
CREATE INDEX audit_by_age ON audit (at);
