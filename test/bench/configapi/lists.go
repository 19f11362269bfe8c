package configapi

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// shortList is the peer of the long ones.
const shortList = "list500"

// listRounds is how often a list is asked for in each round: one answer takes
// milliseconds, and a collection of garbage may fall into it.
const listRounds = 5

// measureLists measures lists of all interfaces of a project, next to a plain
// list of another project's.
func (b *bench) measureLists(ctx context.Context) error {
	long, err := seed(ctx, b.api.storeSocket(), "long", b.list, 0, 0)
	if err != nil {
		return err
	}
	short, err := seed(ctx, b.api.storeSocket(), "short", b.short, 0, 0)
	if err != nil {
		return err
	}
	lists := []struct {
		name, variant, path string
		want                int
	}{
		{"list10k", ours, "?parent_id=" + long, b.list},
		{"list10k", shortList, "?parent_id=" + short, b.short},
		{"list10k-detail", ours, "?detail=true&parent_id=" + long, b.list},
		{"list10k-detail", shortList, "?parent_id=" + short, b.short},
	}
	for round := range listRounds*b.rounds + 1 {
		for _, l := range lists {
			path := "/virtual-machine-interfaces" + l.path
			if round > 0 {
				began := time.Now()
				if err := b.api.drain(ctx, path); err != nil {
					return fmt.Errorf("%s: %w", l.name, err)
				}
				b.samples.Add(l.name, l.variant, float64(time.Since(began).Microseconds())/1000)
				continue
			}
			// The first fills caches, and is looked at.
			data, err := b.api.call(ctx, "GET", path, "")
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			var got map[string][]json.RawMessage
			if err := json.Unmarshal(data, &got); err != nil || len(got["virtual-machine-interfaces"]) != l.want {
				return fmt.Errorf("%s has %d interfaces, want %d: %w", l.name, len(got["virtual-machine-interfaces"]), l.want, err)
			}
		}
	}
	b.addLatency("list10k", 0)
	b.addLatency("list10k-detail", 20)
	return nil
}
