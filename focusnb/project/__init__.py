"""What is known and kept of a session: folder, library, facts, choices, history."""
