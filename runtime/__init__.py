"""What every command shares and that knows nothing of speech: command lines, Ray jobs, progress, pages, versions."""
