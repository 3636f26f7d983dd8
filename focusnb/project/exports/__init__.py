"""What leaves a project: tables for analysts."""
