"""What to do next, decided purely: commands, live objects and answers come in, calls and reports come out."""
