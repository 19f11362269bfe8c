//go:build !net

package vrouter

var programs map[string]func(args []string) int

func cleanUp() {}
