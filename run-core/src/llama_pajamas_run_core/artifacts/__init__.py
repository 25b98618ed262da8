"""Models on disk: what a file is, where models are kept, and how they get there."""
