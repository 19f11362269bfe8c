package report

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestPercentiles(t *testing.T) {
	for _, c := range []struct {
		values []float64
		p      float64
		want   float64
	}{
		{nil, 50, 0},
		{[]float64{7}, 99, 7},
		{[]float64{3, 1, 2}, 50, 2},
		{[]float64{4, 1, 2, 3}, 50, 2.5},
		{[]float64{1, 2, 3, 4, 5}, 25, 2},
		{[]float64{1, 2, 3, 4, 5}, 100, 5},
	} {
		if got := Percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile %v of %v is %v, want %v", c.p, c.values, got, c.want)
		}
	}
}

// The ratio is of the rounds, not of the medians.
func TestResultComparesByRound(t *testing.T) {
	s := NewSamples()
	for _, round := range [][2]float64{{10, 5}, {100, 50}, {30, 10}} {
		s.Add("udp64/cross", "ours", round[0])
		s.Add("udp64/cross", "peer", round[1])
	}
	r := s.Result("udp64/cross", "ours", "packets/s", "higher", map[string]float64{"peer": 2.5})
	if r.Case != "udp64/cross/ours" || r.Value != 30 || r.Runs != 3 || len(r.Against) != 1 {
		t.Fatalf("result is %+v", r)
	}
	a := r.Against[0]
	if a.Ratio != 2 || a.Value != 10 || a.Reached("higher") || !a.Reached("lower") {
		t.Errorf("comparison is %+v", a)
	}
}

func TestWriteAndPrint(t *testing.T) {
	s := NewSamples()
	s.Add("rr/same", "ours", 1000)
	s.Add("rr/same", "veth", 2000)
	area := &Area{
		Area: "dataplane", Machine: ThisMachine(),
		Results: []Result{s.Result("rr/same", "ours", "transactions/s", "higher", nil)},
	}
	path, err := area.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got Area
	if err := json.Unmarshal(text, &got); err != nil || got.Results[0].Against[0].Ratio != 0.5 {
		t.Errorf("%s reads as %+v, %v", text, got, err)
	}
	var table bytes.Buffer
	area.Print(&table)
	if !strings.Contains(table.String(), "rr/same/ours") || !strings.Contains(table.String(), "0.50") {
		t.Errorf("table is\n%s", table.String())
	}
}
