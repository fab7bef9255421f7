-- When the node's connection ended, by the Supervisor's clock; none while it is connected, or was never seen to leave.
ALTER TABLE nodes ADD COLUMN unlinked_at BIGINT;
