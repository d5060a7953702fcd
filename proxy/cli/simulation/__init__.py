"""What policies would send and cost: transcripts replayed through the real planners, with no model and no store."""
