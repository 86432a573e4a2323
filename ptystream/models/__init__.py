"""Fields that give an object or a probe: nothing about data or time."""
