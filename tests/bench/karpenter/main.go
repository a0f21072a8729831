// Karpenter's own scheduler, asked which nodes it would make for pods that Python generated.
//
// Set up as Karpenter's benchmark does it (pkg/controllers/provisioning/scheduling/scheduling_benchmark_test.go): one
// NodePool without limits, the fake cloud provider, five concurrent reconciles; timed is Solve. Other than there, pods
// and instance types are those that are asked about, and there may be nodes already: each is told with what is free
// of it, which is all that the scheduler asks of it.
//
// Reads one question as JSON from standard input, and writes the answer to standard output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	fakecr "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/log"

	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/fake"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/operator/injection"
	"sigs.k8s.io/karpenter/pkg/operator/logging"
	"sigs.k8s.io/karpenter/pkg/operator/options"
	karpenter "sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/test"
)

const concurrentReconciles = 5

// Amounts are by resource: cpu in thousandths, all else in its own unit.
type amounts map[string]int64

type instanceType struct {
	Name        string  `json:"name"`
	Price       float64 `json:"price"`
	Zone        string  `json:"zone"`
	Allocatable amounts `json:"allocatable"`
}

type existingNode struct {
	Name string  `json:"name"`
	Zone string  `json:"zone"`
	Free amounts `json:"free"`
}

type podSet struct {
	Name     string  `json:"name"`
	Count    int     `json:"count"`
	Requests amounts `json:"requests"`
}

type question struct {
	// After so long Solve is given up; what has a place by then counts.
	DeadlineS     float64        `json:"deadline_s"`
	InstanceTypes []instanceType `json:"instance_types"`
	Nodes         []existingNode `json:"nodes"`
	Pods          []podSet       `json:"pods"`
}

type answer struct {
	SolveS   float64        `json:"solve_s"`
	Ended    bool           `json:"ended"`
	Unplaced int            `json:"unplaced"`
	Price    float64        `json:"price"`
	Nodes    map[string]int `json:"nodes"`
}

func list(given amounts) corev1.ResourceList {
	found := corev1.ResourceList{}
	for name, amount := range given {
		if name == string(corev1.ResourceCPU) {
			found[corev1.ResourceCPU] = *resource.NewMilliQuantity(amount, resource.DecimalSI)
		} else {
			found[corev1.ResourceName(name)] = *resource.NewQuantity(amount, resource.BinarySI)
		}
	}
	return found
}

// One offering, on demand. A node's amounts are what pods may take of it, so nothing is reserved of them.
func instanceTypeOf(given instanceType) *cloudprovider.InstanceType {
	offering := cloudprovider.Offering{
		Available: true,
		Requirements: karpenter.NewLabelRequirements(map[string]string{
			v1.CapacityTypeLabelKey:  v1.CapacityTypeOnDemand,
			corev1.LabelTopologyZone: given.Zone,
		}),
		Price: given.Price,
	}
	found := fake.NewInstanceType(given.Name, fake.WithResources(list(given.Allocatable)), fake.WithOfferings(offering))
	found.Overhead = &cloudprovider.InstanceTypeOverhead{}
	return found
}

func nodeOf(given existingNode) *state.StateNode {
	node := state.NewNode()
	node.Node = &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:   given.Name,
			Labels: map[string]string{corev1.LabelHostname: given.Name, corev1.LabelTopologyZone: given.Zone},
		},
		Spec:   corev1.NodeSpec{ProviderID: "fake://" + given.Name},
		Status: corev1.NodeStatus{Allocatable: list(given.Free), Capacity: list(given.Free)},
	}
	return node
}

func podsOf(given []podSet) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, set := range given {
		for number := range set.Count {
			name := fmt.Sprintf("%s-%d", set.Name, number)
			pods = append(pods, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name:      "main",
					Resources: corev1.ResourceRequirements{Requests: list(set.Requests)},
				}}},
			})
		}
	}
	return pods
}

func solve(asked question) (answer, error) {
	ctx := options.ToContext(injection.WithControllerName(context.Background(), "provisioner"), test.Options())
	pool := test.NodePool(v1.NodePool{Spec: v1.NodePoolSpec{Limits: v1.Limits{
		corev1.ResourceCPU:    resource.MustParse("10000000"),
		corev1.ResourceMemory: resource.MustParse("10000000Gi"),
	}}})
	var instanceTypes []*cloudprovider.InstanceType
	for _, given := range asked.InstanceTypes {
		instanceTypes = append(instanceTypes, instanceTypeOf(given))
	}
	var nodes []*state.StateNode
	for _, given := range asked.Nodes {
		nodes = append(nodes, nodeOf(given))
	}
	provider := fake.NewCloudProvider()
	provider.InstanceTypes = instanceTypes
	pods, client, now := podsOf(asked.Pods), fakecr.NewFakeClient(), clock.RealClock{}
	cluster := state.NewCluster(now, client, provider)
	pools, byPool := []*v1.NodePool{pool}, map[string][]*cloudprovider.InstanceType{pool.Name: instanceTypes}
	concurrent := scheduling.NumConcurrentReconciles(concurrentReconciles)
	topology, err := scheduling.NewTopology(ctx, client, cluster, nodes, pools, byPool, pods, concurrent)
	if err != nil {
		return answer{}, fmt.Errorf("creating topology, %w", err)
	}
	recorder := events.NewRecorder(&record.FakeRecorder{})
	scheduler := scheduling.NewScheduler(
		ctx, client, pools, cluster, nodes, topology, byPool, nil, recorder, now, nil, nil, concurrent,
	)
	limited, cancel := context.WithTimeout(ctx, time.Duration(asked.DeadlineS*float64(time.Second)))
	defer cancel()
	start := time.Now()
	results, err := scheduler.Solve(limited, pods)
	took := time.Since(start)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return answer{}, fmt.Errorf("solving, %w", err)
	}
	found := answer{SolveS: took.Seconds(), Ended: err == nil, Unplaced: len(pods), Nodes: map[string]int{}}
	for _, node := range results.ExistingNodes {
		found.Unplaced -= len(node.Pods)
	}
	for _, claim := range results.NewNodeClaims {
		found.Unplaced -= len(claim.Pods)
		// Its provider launches the cheapest of those that the claim allows.
		cheapest := claim.InstanceTypeOptions.OrderByPrice(claim.Requirements)[0]
		found.Price += cheapest.Offerings.Cheapest().Price
		found.Nodes[cheapest.Name]++
	}
	return found, nil
}

func main() {
	log.SetLogger(logging.NopLogger)
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintf(os.Stderr, "reading the question: %s\n", err)
		os.Exit(2)
	}
	found, err := solve(asked)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		fmt.Fprintf(os.Stderr, "writing the answer: %s\n", err)
		os.Exit(1)
	}
}
