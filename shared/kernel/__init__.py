"""What every decision has in common: stimuli come in, instructions go out, time is data."""
