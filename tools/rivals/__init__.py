"""Other packages and ours on the same scans: problems, runners, scores, a table."""
