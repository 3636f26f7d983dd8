"""What the world may see of a session: snapshots, publishing, alerts, history; no widgets."""
