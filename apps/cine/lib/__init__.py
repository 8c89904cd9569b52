"""Parts of the app, imported by `main.py` while MONAI Label loads it."""
