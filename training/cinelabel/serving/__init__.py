"""The server as a process: its settings, log-in tokens, start and end."""
