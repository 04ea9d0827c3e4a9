"""Take rights away from this process for good: Landlock for files, seccomp for system calls."""
