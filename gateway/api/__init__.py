"""The operator's control API: HTTP on a unix socket."""
