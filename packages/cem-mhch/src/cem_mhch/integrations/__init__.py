"""Host libraries: transformers."""
