"""The daemon: connections, sessions, pools, the console, metrics and the command line."""
