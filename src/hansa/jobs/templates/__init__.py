"""Code that `hansa job create` puts into a new job: one folder per template, copied as it is into `custom/`."""
