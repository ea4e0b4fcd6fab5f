"""Sessions out of one store and into another."""
