// The HorizontalPodAutoscaler of Kubernetes itself, asked about cases that Python generated.
//
// Laid over k8s.io/kubernetes/pkg/controller/podautoscaler when it is compiled (`go test -overlay`), so that it may
// call what that package does not export; nothing of Kubernetes is copied. Time is virtual (testing/synctest).
//
// $ORACLE_CASES has a case in each line; $ORACLE_RESULTS gets as many lines.
package podautoscaler

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	autoscalingclient "k8s.io/client-go/kubernetes/typed/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/record"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	metricsclient "k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/monitor"
	"k8s.io/kubernetes/pkg/controller/util/selectors"
	"k8s.io/kubernetes/pkg/features"
)

type oracleContainer struct {
	Name     string           `json:"name"`
	Requests map[string]int64 `json:"requests"`
}

type oraclePod struct {
	Key          string            `json:"key"`
	Phase        string            `json:"phase"`
	Containers   []oracleContainer `json:"containers"`
	OwnRequests  map[string]int64  `json:"own_requests"`
	Deleting     bool              `json:"deleting"`
	Ready        string            `json:"ready"`
	ReadySinceMs int64             `json:"ready_since_ms"`
	StartedMs    *int64            `json:"started_ms"`
}

type oracleSample struct {
	Milli    int64 `json:"milli"`
	AtMs     int64 `json:"at_ms"`
	WindowMs int64 `json:"window_ms"`
}

type oracleReading struct {
	Samples map[string]oracleSample `json:"samples"`
	Values  []int64                 `json:"values"`
	Failed  bool                    `json:"failed"`
}

type oracleLook struct {
	AtMs     int64           `json:"at_ms"`
	Asked    *int32          `json:"asked"`
	There    int32           `json:"there"`
	Pods     []oraclePod     `json:"pods"`
	Readings []oracleReading `json:"readings"`
}

type oracleMetric struct {
	Type        string `json:"type"`
	Name        string `json:"name"`
	Container   string `json:"container"`
	Utilization *int32 `json:"utilization"`
	Average     *int64 `json:"average_milli"`
	Value       *int64 `json:"value_milli"`
}

type oracleCase struct {
	Min         int32                                          `json:"min"`
	Max         int32                                          `json:"max"`
	Metrics     []oracleMetric                                 `json:"metrics"`
	Behavior    *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior"`
	Tolerance   float64                                        `json:"tolerance"`
	DownS       int64                                          `json:"down_stabilization_s"`
	CPUInitMs   int64                                          `json:"cpu_initialization_ms"`
	ReadinessMs int64                                          `json:"initial_readiness_ms"`
	Looks       []oracleLook                                   `json:"looks"`
}

type oracleAnswer struct {
	Replicas int32    `json:"replicas"`
	Known    bool     `json:"known"`
	Failed   bool     `json:"failed"`
	Error    string   `json:"error"`
	Reasons  []string `json:"reasons"`
}

// Everything that the controller asks of others, answered from the look of the moment.
type oracleWorld struct {
	look    oracleLook
	metrics []oracleMetric
	began   time.Time
	asked   int32
	status  autoscalingv2.HorizontalPodAutoscalerStatus
	pods    []*v1.Pod
}

func (w *oracleWorld) at(ms int64) time.Time {
	return w.began.Add(time.Duration(ms) * time.Millisecond)
}

func (w *oracleWorld) reading(matches func(oracleMetric) bool) (oracleReading, error) {
	for i, metric := range w.metrics {
		if matches(metric) {
			if w.look.Readings[i].Failed {
				return oracleReading{}, errors.New("no answer")
			}
			return w.look.Readings[i], nil
		}
	}
	return oracleReading{}, errors.New("never asked for")
}

func (w *oracleWorld) samples(matches func(oracleMetric) bool) (metricsclient.PodMetricsInfo, time.Time, error) {
	reading, err := w.reading(matches)
	if err != nil {
		return nil, time.Time{}, err
	}
	found := metricsclient.PodMetricsInfo{}
	for key, sample := range reading.Samples {
		window := time.Duration(sample.WindowMs) * time.Millisecond
		found[key] = metricsclient.PodMetric{Timestamp: w.at(sample.AtMs), Window: window, Value: sample.Milli}
	}
	return found, time.Now(), nil
}

func (w *oracleWorld) GetResourceMetric(_ context.Context, name v1.ResourceName, _ string, _ labels.Selector, container string) (metricsclient.PodMetricsInfo, time.Time, error) {
	return w.samples(func(m oracleMetric) bool {
		return (m.Type == "Resource" || m.Type == "ContainerResource") && m.Name == string(name) && m.Container == container
	})
}

func (w *oracleWorld) GetRawMetric(name string, _ string, _ labels.Selector, _ labels.Selector) (metricsclient.PodMetricsInfo, time.Time, error) {
	return w.samples(func(m oracleMetric) bool { return m.Type == "Pods" && m.Name == name })
}

func (w *oracleWorld) GetObjectMetric(name string, _ string, _ *autoscalingv2.CrossVersionObjectReference, _ labels.Selector) (int64, time.Time, error) {
	reading, err := w.reading(func(m oracleMetric) bool { return m.Type == "Object" && m.Name == name })
	if err != nil {
		return 0, time.Time{}, err
	}
	return reading.Values[0], time.Now(), nil
}

func (w *oracleWorld) GetExternalMetric(name string, _ string, _ labels.Selector) ([]int64, time.Time, error) {
	reading, err := w.reading(func(m oracleMetric) bool { return m.Type == "External" && m.Name == name })
	return reading.Values, time.Now(), err
}

type oraclePods struct {
	corelisters.PodNamespaceLister
	world *oracleWorld
}

func (p oraclePods) Pods(string) corelisters.PodNamespaceLister { return p }
func (p oraclePods) List(labels.Selector) ([]*v1.Pod, error)    { return p.world.pods, nil }

type oracleScales struct {
	scale.ScaleInterface
	world *oracleWorld
}

func (s oracleScales) Scales(string) scale.ScaleInterface { return s }

func (s oracleScales) Get(context.Context, schema.GroupResource, string, metav1.GetOptions) (*autoscalingv1.Scale, error) {
	return &autoscalingv1.Scale{
		Spec:   autoscalingv1.ScaleSpec{Replicas: s.world.asked},
		Status: autoscalingv1.ScaleStatus{Replicas: s.world.look.There, Selector: "app=a"},
	}, nil
}

func (s oracleScales) Update(_ context.Context, _ schema.GroupResource, wanted *autoscalingv1.Scale, _ metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	s.world.asked = wanted.Spec.Replicas
	return wanted, nil
}

type oracleStatuses struct {
	autoscalingclient.HorizontalPodAutoscalerInterface
	world *oracleWorld
}

func (s oracleStatuses) HorizontalPodAutoscalers(string) autoscalingclient.HorizontalPodAutoscalerInterface {
	return s
}

func (s oracleStatuses) UpdateStatus(_ context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, _ metav1.UpdateOptions) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	s.world.status = hpa.Status
	return hpa, nil
}

func milli(value *int64) *resource.Quantity {
	if value == nil {
		return nil
	}
	return resource.NewMilliQuantity(*value, resource.DecimalSI)
}

func requests(of map[string]int64) v1.ResourceRequirements {
	found := v1.ResourceList{}
	for name, amount := range of {
		found[v1.ResourceName(name)] = *resource.NewMilliQuantity(amount, resource.DecimalSI)
	}
	return v1.ResourceRequirements{Requests: found}
}

func (w *oracleWorld) build(pod oraclePod) *v1.Pod {
	built := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: pod.Key, Namespace: "ns", Labels: map[string]string{"app": "a"}}}
	built.Status.Phase = v1.PodPhase(pod.Phase)
	if pod.Deleting {
		now := metav1.NewTime(time.Now())
		built.DeletionTimestamp = &now
	}
	if pod.Ready != "" {
		built.Status.Conditions = []v1.PodCondition{{
			Type: v1.PodReady, Status: v1.ConditionStatus(pod.Ready), LastTransitionTime: metav1.NewTime(w.at(pod.ReadySinceMs)),
		}}
	}
	if pod.StartedMs != nil {
		started := metav1.NewTime(w.at(*pod.StartedMs))
		built.Status.StartTime = &started
	}
	for _, container := range pod.Containers {
		built.Spec.Containers = append(built.Spec.Containers, v1.Container{Name: container.Name, Resources: requests(container.Requests)})
	}
	if pod.OwnRequests != nil {
		own := requests(pod.OwnRequests)
		built.Spec.Resources = &own
	}
	return built
}

func spec(metric oracleMetric) autoscalingv2.MetricSpec {
	target := autoscalingv2.MetricTarget{AverageUtilization: metric.Utilization, AverageValue: milli(metric.Average), Value: milli(metric.Value)}
	target.Type = autoscalingv2.UtilizationMetricType
	if metric.Average != nil {
		target.Type = autoscalingv2.AverageValueMetricType
	} else if metric.Value != nil {
		target.Type = autoscalingv2.ValueMetricType
	}
	identifier := autoscalingv2.MetricIdentifier{Name: metric.Name}
	found := autoscalingv2.MetricSpec{Type: autoscalingv2.MetricSourceType(metric.Type)}
	switch found.Type {
	case autoscalingv2.ResourceMetricSourceType:
		found.Resource = &autoscalingv2.ResourceMetricSource{Name: v1.ResourceName(metric.Name), Target: target}
	case autoscalingv2.ContainerResourceMetricSourceType:
		found.ContainerResource = &autoscalingv2.ContainerResourceMetricSource{Name: v1.ResourceName(metric.Name), Container: metric.Container, Target: target}
	case autoscalingv2.PodsMetricSourceType:
		found.Pods = &autoscalingv2.PodsMetricSource{Metric: identifier, Target: target}
	case autoscalingv2.ObjectMetricSourceType:
		found.Object = &autoscalingv2.ObjectMetricSource{Metric: identifier, Target: target, DescribedObject: autoscalingv2.CrossVersionObjectReference{Kind: "Service", Name: "s"}}
	case autoscalingv2.ExternalMetricSourceType:
		found.External = &autoscalingv2.ExternalMetricSource{Metric: identifier, Target: target}
	}
	return found
}

func ask(item oracleCase, mapper meta.RESTMapper) []oracleAnswer {
	world := &oracleWorld{metrics: item.Metrics, began: time.Now(), asked: *item.Looks[0].Asked}
	pods := oraclePods{world: world}
	controller := &HorizontalController{
		scaleNamespacer: oracleScales{world: world}, hpaNamespacer: oracleStatuses{world: world}, mapper: mapper,
		tolerance: item.Tolerance, eventRecorder: &record.FakeRecorder{}, monitor: monitor.New(), podLister: pods,
		replicaCalc: NewReplicaCalculator(world, pods, time.Duration(item.CPUInitMs)*time.Millisecond,
			time.Duration(item.ReadinessMs)*time.Millisecond),
		downscaleStabilisationWindow: time.Duration(item.DownS) * time.Second,
		recommendations:              map[string][]timestampedRecommendation{},
		scaleUpEvents:                map[string][]timestampedScaleEvent{},
		scaleDownEvents:              map[string][]timestampedScaleEvent{},
		hpaSelectors:                 selectors.NewBiMultimap(),
	}
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns"}}
	hpa.Spec = autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "a"},
		MinReplicas:    &item.Min, MaxReplicas: item.Max, Behavior: item.Behavior,
	}
	for _, metric := range item.Metrics {
		hpa.Spec.Metrics = append(hpa.Spec.Metrics, spec(metric))
	}
	controller.hpaSelectors.PutSelector(selectors.Key{Name: "a", Namespace: "ns"}, labels.Nothing())
	answers := make([]oracleAnswer, 0, len(item.Looks))
	for _, look := range item.Looks {
		time.Sleep(time.Until(world.at(look.AtMs)))
		world.look = look
		if look.Asked != nil {
			world.asked = *look.Asked
		}
		world.pods = nil
		for _, pod := range look.Pods {
			world.pods = append(world.pods, world.build(pod))
		}
		hpa.Status = world.status
		before := world.asked
		err := controller.reconcileAutoscaler(context.Background(), hpa, "ns/a")
		answer := oracleAnswer{Replicas: world.asked, Known: true, Failed: err != nil}
		if err != nil {
			answer.Error = err.Error()
		}
		for _, condition := range world.status.Conditions {
			if condition.Type == autoscalingv2.ScalingActive || condition.Type == autoscalingv2.ScalingLimited {
				answer.Reasons = append(answer.Reasons, string(condition.Type)+" "+string(condition.Status)+" "+condition.Reason)
			}
			if err != nil && condition.Type == autoscalingv2.ScalingActive && condition.Status == v1.ConditionFalse {
				answer.Known = false
			}
		}
		if !answer.Known && before != world.asked {
			panic("scaled by what is not known")
		}
		answers = append(answers, answer)
	}
	return answers
}

func TestOracle(t *testing.T) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.HPAScaleToZero, true)
	cases, err := os.Open(os.Getenv("ORACLE_CASES"))
	if err != nil {
		t.Fatal(err)
	}
	defer cases.Close()
	results, err := os.Create(os.Getenv("ORACLE_RESULTS"))
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{{Group: "apps", Version: "v1"}})
	mapper.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, meta.RESTScopeNamespace)
	reader := bufio.NewScanner(cases)
	reader.Buffer(make([]byte, 1<<20), 1<<26)
	writer := bufio.NewWriter(results)
	defer writer.Flush()
	synctest.Test(t, func(t *testing.T) {
		for reader.Scan() {
			var item oracleCase
			if err := json.Unmarshal(reader.Bytes(), &item); err != nil {
				t.Fatal(err)
			}
			line, err := json.Marshal(ask(item, mapper))
			if err != nil {
				t.Fatal(err)
			}
			writer.Write(append(line, '\n'))
		}
	})
	if err := reader.Err(); err != nil {
		t.Fatal(err)
	}
}
