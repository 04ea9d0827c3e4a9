"""The audit record: a hash chain on disk, its signed heads, its verification."""
