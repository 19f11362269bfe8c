// Package report is the result of a benchmark area: medians and ratios from
// interleaved rounds, as a table for people and as JSON for machines.
//
//	samples := report.NewSamples()
//	for each round, case and variant: samples.Add(case, variant, value)
//	area.Results = append(area.Results, samples.Result(...))
package report

import (
	"bufio"
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

// Area is all that one run measured.
type Area struct {
	Area    string   `json:"area"`
	Machine Machine  `json:"machine"`
	Results []Result `json:"results"`
}

// Machine says where it was measured.
type Machine struct {
	CPU    string  `json:"cpu"`
	CPUs   int     `json:"cpus"`
	Memory int64   `json:"memory_bytes"`
	Kernel string  `json:"kernel"`
	Go     string  `json:"go"`
	Load   float64 `json:"load"` // one-minute average when the run began
}

// Result is one case of ours.
type Result struct {
	// Case is WHAT/WHERE/VARIANT, for example udp64/cross/mplsoudp.
	Case string `json:"case"`
	// Value is the median of the runs, for latencies the p50.
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Runs  int     `json:"runs"`
	P25   float64 `json:"p25"`
	P75   float64 `json:"p75"`
	// P99 is set for latencies.
	P99 float64 `json:"p99,omitempty"`
	// Better is higher or lower.
	Better  string    `json:"better"`
	Against []Against `json:"against,omitempty"`
}

// Against is the comparison with a peer in the same case.
type Against struct {
	Peer  string  `json:"peer"`
	Value float64 `json:"value"`
	P99   float64 `json:"p99,omitempty"`
	// Ratio is the median of the per-round ratios ours/peer.
	Ratio float64 `json:"ratio"`
	// Target is the ratio to reach, 0 if none is set: at least, where higher is
	// better, else at most.
	Target float64 `json:"target,omitempty"`
}

// Reached says whether the ratio meets its target.
func (a Against) Reached(better string) bool {
	if better == "lower" {
		return a.Target == 0 || a.Ratio <= a.Target
	}
	return a.Ratio >= a.Target
}

// Samples holds the values of all rounds by case and variant. It is not safe
// for concurrent use.
type Samples map[string]map[string][]float64

// NewSamples returns an empty set.
func NewSamples() Samples { return Samples{} }

// Add appends the value of one round.
func (s Samples) Add(name, variant string, value float64) {
	if s[name] == nil {
		s[name] = map[string][]float64{}
	}
	s[name][variant] = append(s[name][variant], value)
}

// Result makes the result of a case for the variant that is ours. targets are
// the ratios to reach, by peer.
func (s Samples) Result(name, ours, unit, better string, targets map[string]float64) Result {
	own := s[name][ours]
	r := Result{
		Case: name + "/" + ours, Value: Median(own), Unit: unit, Runs: len(own),
		P25: Percentile(own, 25), P75: Percentile(own, 75), Better: better,
	}
	for peer, values := range s[name] {
		if peer == ours {
			continue
		}
		r.Against = append(r.Against, Against{
			Peer: peer, Value: Median(values), Ratio: Median(Ratios(own, values)), Target: targets[peer],
		})
	}
	slices.SortFunc(r.Against, func(a, b Against) int { return strings.Compare(a.Peer, b.Peer) })
	return r
}

// Ratios returns ours/peer of each round; rounds without a peer's value are
// left out.
func Ratios(ours, peer []float64) []float64 {
	var ratios []float64
	for i := range min(len(ours), len(peer)) {
		if peer[i] != 0 {
			ratios = append(ratios, ours[i]/peer[i])
		}
	}
	return ratios
}

// Median is the 50th percentile.
func Median(values []float64) float64 { return Percentile(values, 50) }

// Percentile interpolates between the nearest values; of none it is 0.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := p / 100 * float64(len(sorted)-1)
	low := int(math.Floor(at))
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// ThisMachine describes the machine.
func ThisMachine() Machine {
	m := Machine{CPU: cpuName(), CPUs: runtime.NumCPU(), Go: runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
		m.Load = math.Round(float64(info.Loads[0])/65536*100) / 100
	}
	return m
}

func cpuName() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// Write writes AREA.json to a directory, made if missing, and returns its path.
func (a *Area) Write(dir string) (string, error) {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode result of %s: %w", a.Area, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make result directory: %w", err)
	}
	path := filepath.Join(dir, a.Area+".json")
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("write result: %w", err)
	}
	return path, nil
}

// Print writes a table.
func (a *Area) Print(to io.Writer) {
	fmt.Fprintf(to, "%s on %s (%d CPUs), Linux %s, load %.2f\n\n",
		a.Area, a.Machine.CPU, a.Machine.CPUs, a.Machine.Kernel, a.Machine.Load)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\tmedian\tp25\tp75\tp99\tunit\truns\tpeer\tpeer's median\tpeer's p99\tratio\tto reach")
	for _, r := range a.Results {
		row := fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%d",
			r.Case, number(r.Value), number(r.P25), number(r.P75), number(r.P99), r.Unit, r.Runs)
		if len(r.Against) == 0 {
			fmt.Fprintln(w, row+"\t-\t-\t-\t-\t-")
		}
		for i, p := range r.Against {
			if i > 0 {
				row = "\t\t\t\t\t\t"
			}
			goal := "-"
			if p.Target != 0 {
				goal = fmt.Sprintf("%.2f missed", p.Target)
				if p.Reached(r.Better) {
					goal = fmt.Sprintf("%.2f reached", p.Target)
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2f\t%s\n", row, p.Peer, number(p.Value), number(p.P99), p.Ratio, goal)
		}
	}
	w.Flush()
}

// number writes a value with three or more significant digits; what was not
// measured is a dash.
func number(v float64) string {
	if v == 0 {
		return "-"
	}
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
