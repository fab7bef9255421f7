-- What the agent of a node logged last, as a JSON array of lines, when its snapshot failed.
ALTER TABLE snapshots ADD COLUMN log TEXT;
