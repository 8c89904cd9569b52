"""The panel: a file a section, each a .ui file bound to the session's states. Qt only."""
