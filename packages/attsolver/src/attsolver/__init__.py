"""A fused ODE engine for batches of trajectories, and AttSolver, a learned additive correction of an explicit solver."""
