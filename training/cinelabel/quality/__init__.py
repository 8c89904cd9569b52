"""Findings about a study that tell a reader which breath-holds to trust."""
