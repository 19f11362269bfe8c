// Command contrail-example is the program in the example image. It answers so
// that others can see that it is reached, and tries whether others are:
//
//	contrail-example serve            HTTP on 8080; TCP and UDP echo on 7007
//	contrail-example check ADDRESS    asks another one by ICMP, TCP and UDP
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

const usage = `usage:
  contrail-example serve [--http PORT] [--echo PORT]
  contrail-example check ADDRESS [--icmp] [--tcp] [--udp] [--timeout DURATION]
`

// usageError says what is wrong, and how it is right.
type usageError string

func (e usageError) Error() string { return string(e) + "\n" + usage }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "contrail-example: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError("no command")
	}
	flags := pflag.NewFlagSet(args[0], pflag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	switch args[0] {
	case "serve":
		httpPort := flags.Int("http", 8080, "port of the HTTP server")
		echoPort := flags.Int("echo", echoPort, "port of the TCP and UDP echo")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return serveAll(ctx, *httpPort, *echoPort)
	case "check":
		var c check
		flags.BoolVar(&c.icmp, "icmp", false, "by ICMP echo")
		flags.BoolVar(&c.tcp, "tcp", false, "by TCP echo")
		flags.BoolVar(&c.udp, "udp", false, "by UDP echo")
		flags.DurationVar(&c.timeout, "timeout", 2*time.Second, "how long each may take")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if flags.NArg() != 1 {
			return usageError("check wants one address")
		}
		return c.run(ctx, flags.Arg(0))
	default:
		return usageError("no command is named " + args[0])
	}
}
