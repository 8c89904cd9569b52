"""The digital phantom: studies with known truth, for training, trials and demonstrations."""
