package control

import "testing"

// TestRecompile tries the benchmark itself, in miniature.
func TestRecompile(t *testing.T) {
	r, err := measureRecompile(10, 30, 5, 3)
	if err != nil {
		t.Fatal(err)
	}
	if r.Value <= 0 || r.Runs != 3 || r.Case != "recompile10" {
		t.Errorf("result %+v", r)
	}
}
