"""Where results go: documents, status, preview, files."""
