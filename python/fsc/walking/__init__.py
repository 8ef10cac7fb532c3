"""Teacher and student side by side, each layer of each network run once."""
