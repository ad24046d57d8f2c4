"""What the end-to-end tests stand on: the real daemon, its clients, other users, and the search for leaks."""
