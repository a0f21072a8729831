"""What the watcher publishes, decided purely: no clock, network or log. `mirror.ClusterMirror` is the machine."""
