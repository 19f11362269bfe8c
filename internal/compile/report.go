package compile

// roots are the units whose results are for others than units.
var roots = []anyUnit{instances}

// Change is a result before and after; nil where there was or is none.
type Change[T any] struct{ Before, After *T }

// Report says which results a change has made others.
type Report struct {
	// Instances by the UUID of their network.
	Instances map[string]Change[Instance]
}

func (r *Report) add(x *cell, before any) {
	switch x.unit {
	case instances:
		enter(&r.Instances, x, before)
	}
}

// enter enters the change of a result into a report.
func enter[T any](all *map[string]Change[T], x *cell, before any) {
	if *all == nil {
		*all = map[string]Change[T]{}
	}
	was, _ := before.(*T)
	is, _ := x.result.(*T)
	(*all)[x.owner] = Change[T]{Before: was, After: is}
}

// Instance is the instance of a network; nil as for InstanceOf.
func (c *Compiler) Instance(network string) *Instance { return resultOf(c, instances, network) }

func resultOf[T any](c *Compiler, u *unit[T], owner string) *T {
	if x, ok := c.cells[cellKey{u, owner}]; ok {
		r, _ := x.result.(*T)
		return r
	}
	return nil
}
