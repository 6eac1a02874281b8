"""The console: what a client on the admin database talks to."""
