"""The model store: immutable versions with cards, checksums and two forms of each network."""
