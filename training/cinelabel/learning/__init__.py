"""Learning: training configurations, data, losses and the loop; torch only in its modules."""
