"""One file per model; see registry.py for which."""
