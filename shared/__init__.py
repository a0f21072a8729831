"""What every service has in common: the model, the contracts, the ports and their adapters."""
