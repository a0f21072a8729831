"""What turns a service into a process: settings, signals, health, metrics; and the embedded broker and Redis."""
