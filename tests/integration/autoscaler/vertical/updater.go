package main

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	vpa_types "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/apis/autoscaling.k8s.io/v1"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/updater/priority"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/utils/limitrange"
	vpa_api "k8s.io/autoscaler/vertical-pod-autoscaler/pkg/utils/vpa"
)

// By resource: thousandths of a core and bytes.
type amountsOf map[corev1.ResourceName]int64

type container struct {
	Name     string    `json:"name"`
	Requests amountsOf `json:"requests"`
	Limits   amountsOf `json:"limits"`
	// What its policy allows; limits stay as they are, or in proportion to requests.
	MinAllowed   amountsOf `json:"min_allowed"`
	MaxAllowed   amountsOf `json:"max_allowed"`
	RequestsOnly bool      `json:"requests_only"`
	// What is recommended, of the resources that are controlled; nothing without a target.
	Lower  amountsOf `json:"lower"`
	Target amountsOf `json:"target"`
	Upper  amountsOf `json:"upper"`
}

type podQuestion struct {
	Containers []container `json:"containers"`
	LivedMs    int64       `json:"lived_ms"`
}

type podAnswer struct {
	Update  bool                 `json:"update"`
	Outside bool                 `json:"outside"`
	Change  float64              `json:"change"`
	Targets map[string]amountsOf `json:"targets"`
}

// As DefaultUpdaterConfig of pkg/updater/config has them.
var thresholds = priority.UpdateConfig{
	MinChangePriority:          0.1,
	PodLifetimeUpdateThreshold: 12 * time.Hour,
	EvictAfterOOMThreshold:     10 * time.Minute,
}

func listOf(given amountsOf) corev1.ResourceList {
	found := corev1.ResourceList{}
	for name, amount := range given {
		if name == corev1.ResourceCPU {
			found[name] = *resource.NewMilliQuantity(amount, resource.DecimalSI)
		} else {
			found[name] = *resource.NewQuantity(amount, resource.DecimalSI)
		}
	}
	return found
}

func policyOf(given container) vpa_types.ContainerResourcePolicy {
	values := vpa_types.ContainerControlledValuesRequestsAndLimits
	if given.RequestsOnly {
		values = vpa_types.ContainerControlledValuesRequestsOnly
	}
	return vpa_types.ContainerResourcePolicy{
		ContainerName: given.Name, MinAllowed: listOf(given.MinAllowed), MaxAllowed: listOf(given.MaxAllowed),
		ControlledValues: &values,
	}
}

// Whether the updater would give a pod what is recommended, and what that is within the policy.
func updated(asked podQuestion) podAnswer {
	now := time.Unix(1_800_000_000, 0)
	started := metav1.NewTime(now.Add(-time.Duration(asked.LivedMs) * time.Millisecond))
	pod := &corev1.Pod{Status: corev1.PodStatus{StartTime: &started}}
	vpa := &vpa_types.VerticalPodAutoscaler{}
	vpa.Spec.ResourcePolicy = &vpa_types.PodResourcePolicy{}
	vpa.Status.Recommendation = &vpa_types.RecommendedPodResources{}
	for _, given := range asked.Containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
			Name:      given.Name,
			Resources: corev1.ResourceRequirements{Requests: listOf(given.Requests), Limits: listOf(given.Limits)},
		})
		vpa.Spec.ResourcePolicy.ContainerPolicies = append(vpa.Spec.ResourcePolicy.ContainerPolicies, policyOf(given))
		if given.Target == nil {
			continue
		}
		vpa.Status.Recommendation.ContainerRecommendations = append(
			vpa.Status.Recommendation.ContainerRecommendations, vpa_types.RecommendedContainerResources{
				ContainerName: given.Name,
				LowerBound:    listOf(given.Lower), Target: listOf(given.Target), UpperBound: listOf(given.Upper),
			})
	}
	capping := vpa_api.NewCappingRecommendationProcessor(limitrange.NewNoopLimitsCalculator())
	calculator := priority.NewUpdatePriorityCalculator(vpa, thresholds, capping, priority.NewProcessor())
	calculator.AddPod(pod, now, nil)
	recommended, _, err := capping.Apply(vpa, pod)
	if err != nil {
		fail(err)
	}
	worth := priority.NewProcessor().GetUpdatePriority(pod, vpa, recommended)
	found := podAnswer{
		Update:  len(calculator.GetSortedPods(priority.NewDefaultPodEvictionAdmission())) == 1,
		Outside: worth.OutsideRecommendedRange, Change: worth.ResourceDiff, Targets: map[string]amountsOf{},
	}
	for _, each := range recommended.ContainerRecommendations {
		found.Targets[each.ContainerName] = amountsOf{}
		for name, quantity := range each.Target {
			if name == corev1.ResourceCPU {
				found.Targets[each.ContainerName][name] = quantity.MilliValue()
			} else {
				found.Targets[each.ContainerName][name] = quantity.Value()
			}
		}
	}
	return found
}
