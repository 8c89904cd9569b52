"""Which unlabelled study a reader should see next."""
