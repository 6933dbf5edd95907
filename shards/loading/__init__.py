"""Reading a dataset back."""
