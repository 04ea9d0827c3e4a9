"""What quotegated has to do with inspectors: who inspects what, and what they found."""
