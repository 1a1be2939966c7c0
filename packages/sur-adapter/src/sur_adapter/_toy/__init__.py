"""The toy world: real digits, a small diffusion model that reads keywords, sentences that it does not understand."""
