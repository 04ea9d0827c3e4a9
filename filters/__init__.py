"""Decide what may pass: policy, evaluator, ruleset compiler and the network daemon."""
