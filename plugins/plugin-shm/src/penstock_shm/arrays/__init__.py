"""Arrays that several processes read and write."""
