"""What a bundle costs on this machine: time, memory, disk; each engine beside the network as published."""
