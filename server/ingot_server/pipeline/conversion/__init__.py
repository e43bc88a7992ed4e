"""From a recipe to a checked result."""
