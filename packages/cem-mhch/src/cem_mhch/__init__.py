"""CEM: a causal module for machine-human chatting handoff, with streaming scorer, timing metrics and off-policy evaluation."""
