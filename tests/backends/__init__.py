"""What every store promises, and what each is besides."""
