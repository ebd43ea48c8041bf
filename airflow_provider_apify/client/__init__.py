"""How requests are sent, in a worker and in a triggerer. Nothing here is public."""
