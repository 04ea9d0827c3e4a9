"""The inspector: an unprivileged process that carries inspected connections, or ends them."""
