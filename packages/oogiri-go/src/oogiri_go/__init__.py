"""Dataset tooling for Oogiri-GO: read, verify, deduplicate, split and build humour data for the datasets library."""
