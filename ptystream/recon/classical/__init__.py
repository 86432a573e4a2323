"""The classical engines, each as published: for warm starts and for comparison."""
