"""What stands round the routes: the guard, errors as sentences, the log, the metrics."""
