"""The policy: its model, its one evaluator and what the kernel needs of it."""
