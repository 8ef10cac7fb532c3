"""One layer as a problem: moments, objectives, and what is solved for."""
