package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// explainUse makes errors about how a command was called say how it is called:
// those of flags, of arguments, and of commands that do not exist.
func explainUse(root *cobra.Command) {
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())
	})
	explainArguments(root)
}

func explainArguments(c *cobra.Command) {
	for _, sub := range c.Commands() {
		explainArguments(sub)
	}
	switch {
	case !c.Runnable():
		makeGroup(c)
	case c.Args != nil:
		check := c.Args
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return useError(c, args, err)
			}
			return nil
		}
	}
}

// useError is the error of arguments that a command does not take. What the
// library says counts them; what they are is in the command's own line.
func useError(c *cobra.Command, args []string, err error) error {
	text := err.Error()
	for _, counted := range []string{"accepts ", "requires ", "unknown command "} {
		if strings.HasPrefix(text, counted) {
			text = fmt.Sprintf("want `%s`, got %s", strings.TrimSuffix(c.UseLine(), " [flags]"), argumentsText(len(args)))
			break
		}
	}
	return fmt.Errorf("%s; see `%s --help`", text, c.CommandPath())
}

func argumentsText(n int) string {
	switch n {
	case 0:
		return "no argument"
	case 1:
		return "one argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// group marks commands that only have others below them.
const group = "contrail/group"

func isGroup(c *cobra.Command) bool { return c.Annotations[group] != "" }

// makeGroup has a command that only has others below it help, and fail when it
// is asked for one that it does not have.
func makeGroup(c *cobra.Command) {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[group] = "true"
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		hint := ";"
		if like := c.SuggestionsFor(args[0]); len(like) > 0 {
			hint = "; did you mean " + anyOf(like) + "?"
		}
		return fmt.Errorf("%s has no command %q%s `%s --help` lists them", c.CommandPath(), args[0], hint, c.CommandPath())
	}
}
