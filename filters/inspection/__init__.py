"""Content inspection: from the bytes of a flow to findings. Pure, except for the adapters named so."""
