"""Networks that make finished pictures sharper, larger and cleaner. No sockets, no files but weights and pictures."""
