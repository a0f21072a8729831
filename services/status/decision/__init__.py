"""The pure part: stimuli in, statuses and phase changes out. No clock, no I/O, no logging."""
