"""What several tests share: programs to dump, other readers."""
