"""Adapters to the libraries whose networks the attentions go into; each imports its host and nothing else does."""
