"""Reading, cutting, measuring and saving networks."""
