"""What runtimes say about themselves, and how they are found."""
