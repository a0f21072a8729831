"""This autoscaler beside the HorizontalPodAutoscaler of a real kube-controller-manager: same pods, same metrics."""
