"""Bridges to other solvers; each module needs its host library."""
