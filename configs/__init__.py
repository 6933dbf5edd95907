"""Recipes: one YAML file each; and what the command lines that read them have in common."""
