package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Main runs a program with the arguments, streams and environment of this process, and exits with its code.
//
// The first SIGINT, SIGTERM or SIGHUP ends the context, so that the program can finish what it has in hand. The second
// one ends the process, because the default handlers are back as soon as the context is done.
func Main(run func(ctx context.Context, args []string, streams Streams) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()})
	stop()
	os.Exit(code)
}
