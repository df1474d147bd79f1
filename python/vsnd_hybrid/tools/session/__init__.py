"""What tests and the benchmark share: child processes, an audio server of one's own, a signal whose frames can be found."""
