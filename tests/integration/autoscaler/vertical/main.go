// The Vertical Pod Autoscaler as a program: cases as JSON lines in, its answers as JSON lines out. Asked are its
// recommender, what it recommends, or, with the argument "updater", its updater: whether pods get that.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/logic"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/model"
)

// Samples of one container name, of several pods, in order.
type sample struct {
	Pod    int   `json:"pod"`
	CPU    int64 `json:"cpu"`
	Memory int64 `json:"memory"`
	AtMs   int64 `json:"at_ms"`
}

type question struct {
	// Names of containers in a pod; each has samples of its own.
	Containers [][]sample `json:"containers"`
	// Before the sample of this index each state is saved and loaded again; -1 for never.
	Restart int `json:"restart"`
}

// Thousandths of a core and bytes, by kind of recommendation.
type answer map[string][2]int64

// As DefaultRecommenderConfig of pkg/recommender/config has them, which would bring a client of the API server along.
var defaults = logic.RecommendationConfig{
	SafetyMarginFraction:       0.15,
	PodMinCPUMillicores:        25,
	PodMinMemoryMb:             250,
	TargetCPUPercentile:        0.9,
	LowerBoundCPUPercentile:    0.5,
	UpperBoundCPUPercentile:    0.95,
	ConfidenceIntervalCPU:      24 * time.Hour,
	TargetMemoryPercentile:     0.9,
	LowerBoundMemoryPercentile: 0.5,
	UpperBoundMemoryPercentile: 0.95,
	ConfidenceIntervalMemory:   24 * time.Hour,
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "updater" {
		each(updated)
	} else {
		each(recommend)
	}
}

func each[Question, Answer any](answered func(Question) Answer) {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<28)
	output := json.NewEncoder(os.Stdout)
	for input.Scan() {
		var asked Question
		if err := json.Unmarshal(input.Bytes(), &asked); err != nil {
			fail(err)
		}
		if err := output.Encode(answered(asked)); err != nil {
			fail(err)
		}
	}
	if err := input.Err(); err != nil {
		fail(err)
	}
}

func recommend(asked question) []answer {
	states := model.ContainerNameToAggregateStateMap{}
	for index, samples := range asked.Containers {
		state := model.NewAggregateContainerState()
		pods := map[int]*model.ContainerState{}
		for number, one := range samples {
			if number == asked.Restart {
				state = restarted(state)
				pods = map[int]*model.ContainerState{}
			}
			pod, known := pods[one.Pod]
			if !known {
				pod = model.NewContainerState(model.Resources{}, state)
				pods[one.Pod] = pod
			}
			at := time.UnixMilli(one.AtMs).UTC()
			pod.AddSample(&model.ContainerUsageSample{
				MeasureStart: at, Usage: model.ResourceAmount(one.CPU), Resource: model.ResourceCPU})
			pod.AddSample(&model.ContainerUsageSample{
				MeasureStart: at, Usage: model.ResourceAmount(one.Memory), Resource: model.ResourceMemory})
		}
		states[fmt.Sprintf("c%d", index)] = state
	}
	found := make([]answer, len(asked.Containers))
	for name, made := range logic.CreatePodResourceRecommender(defaults).GetRecommendedPodResources(states) {
		var index int
		if _, err := fmt.Sscanf(name, "c%d", &index); err != nil {
			fail(err)
		}
		found[index] = answer{
			"target": amounts(made.Target), "lower": amounts(made.LowerBound), "upper": amounts(made.UpperBound)}
	}
	return found
}

func restarted(state *model.AggregateContainerState) *model.AggregateContainerState {
	checkpoint, err := state.SaveToCheckpoint()
	if err != nil {
		fail(err)
	}
	again := model.NewAggregateContainerState()
	if err := again.LoadFromCheckpoint(checkpoint); err != nil {
		fail(err)
	}
	return again
}

func amounts(resources model.Resources) [2]int64 {
	return [2]int64{int64(resources[model.ResourceCPU]), int64(resources[model.ResourceMemory])}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
