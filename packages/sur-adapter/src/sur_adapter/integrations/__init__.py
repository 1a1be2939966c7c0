"""Host libraries: diffusers pipelines and the training of adapters; each file needs the extra of its host."""
