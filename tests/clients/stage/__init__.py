"""What the clients' tests stand on: libraries as they are installed, their drivers, and what a scenario's steps do."""
