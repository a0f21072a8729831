"""What this project relies on of the Kubernetes API: one suite, on the simulator and on the real thing.

It is written against a kubeconfig and knows nothing of who serves it. That is how the simulator is kept honest.
"""
