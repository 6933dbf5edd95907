"""Recipes, one YAML file each; and what all commands share: how flags are spelt, what versions are told."""
