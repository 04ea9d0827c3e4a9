"""Measure what Quotegate promises: each figure beside its baseline from the same, interleaved run."""
