package auth

import (
	"fmt"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// TestAbsentUsersTakeAsLong: names that do not exist cost what those of the
// file do, each always the same.
func TestAbsentUsersTakeAsLong(t *testing.T) {
	dear, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost+1)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, fmt.Sprintf(alice+bob, cheap(t, "correct horse"), dear))
	seen := map[int]int{}
	for i := range 100 {
		name := fmt.Sprintf("nobody%d", i)
		cost := f.absentCost(name)
		if again := f.absentCost(name); again != cost {
			t.Errorf("%s costs %d, then %d", name, cost, again)
		}
		seen[cost]++
	}
	if seen[bcrypt.MinCost] == 0 || seen[bcrypt.MinCost+1] == 0 || len(seen) != 2 {
		t.Errorf("names that do not exist have the costs %v", seen)
	}
	f.write("users: []\n")
	if cost := f.absentCost("nobody"); cost != hashCost {
		t.Errorf("cost without users: %d", cost)
	}
}
