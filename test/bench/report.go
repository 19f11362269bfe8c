package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// report is one area's results, as they are written.
type report struct {
	Area    string            `json:"area"`
	Machine map[string]string `json:"machine"`
	Results []result          `json:"results"`
}

type result struct {
	Case   string  `json:"case"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Runs   int     `json:"runs"`
	P25    float64 `json:"p25"`
	P75    float64 `json:"p75"`
	P99    float64 `json:"p99,omitempty"`
	Better string  `json:"better"`
	// Against are the peers, measured in the same rounds.
	Against []peer `json:"against,omitempty"`
}

type peer struct {
	Peer  string  `json:"peer"`
	Value float64 `json:"value"`
	P99   float64 `json:"p99,omitempty"`
	// Ratio is the median of ours divided by the peer's, round by round.
	Ratio float64 `json:"ratio"`
}

func newReport(area string) *report {
	machine := map[string]string{
		"cpus": fmt.Sprint(runtime.NumCPU()), "go": runtime.Version(), "arch": runtime.GOARCH,
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		machine["kernel"] = unix.ByteSliceToString(name.Release[:])
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				machine["cpu"] = strings.TrimSpace(value)
			}
		}
	}
	return &report{Area: area, Machine: machine}
}

// samples are the values of one contestant, one or more per round.
type samples [][]float64

func (s samples) all() []float64 {
	var all []float64
	for _, round := range s {
		all = append(all, round...)
	}
	slices.Sort(all)
	return all
}

// quantile of sorted values, by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return quantile(sorted, 0.5)
}

// add adds a case: ours, and the peers by name in their order. latency gives
// the 99th percentile too.
func (r *report) add(name, unit, better string, latency bool, ours samples, names []string, peers map[string]samples) {
	all := ours.all()
	res := result{
		Case: name, Value: quantile(all, 0.5), Unit: unit, Runs: len(all),
		P25: quantile(all, 0.25), P75: quantile(all, 0.75), Better: better,
	}
	if latency {
		res.P99 = quantile(all, 0.99)
	}
	for _, peerName := range names {
		theirs := peers[peerName]
		var ratios []float64
		for round := range min(len(ours), len(theirs)) {
			ratios = append(ratios, median(ours[round])/median(theirs[round]))
		}
		p := peer{Peer: peerName, Value: quantile(theirs.all(), 0.5), Ratio: median(ratios)}
		if latency {
			p.P99 = quantile(theirs.all(), 0.99)
		}
		res.Against = append(res.Against, p)
	}
	r.Results = append(r.Results, res)
}

func (r *report) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\tmedian\tp25\tp75\tp99\tunit\tratio to\n", r.Area)
	for _, res := range r.Results {
		var ratios []string
		for _, p := range res.Against {
			ratios = append(ratios, fmt.Sprintf("%s %.2f (%.4g)", p.Peer, p.Ratio, p.Value))
		}
		p99 := ""
		if res.P99 != 0 {
			p99 = fmt.Sprintf("%.4g", res.P99)
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.4g\t%s\t%s\t%s\n",
			res.Case, res.Value, res.P25, res.P75, p99, res.Unit, strings.Join(ratios, ", "))
	}
	w.Flush()
}

func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, r.Area+".json"), append(data, '\n'), 0o644)
}
