// Package program is what the clients' programs have in common: verbs, lines, numbers.
package program

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Run calls the verb of the first argument with the others, and ends the process when it fails.
func Run(verbs map[string]func(args []string) error) {
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Say writes a line in one write.
func Say(words ...any) {
	fmt.Fprintln(os.Stdout, words...)
}

// UntilInputEnds is a context that ends with standard input.
func UntilInputEnds() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return ctx
}

// List writes numbers of partitions as `P,P`.
func List(numbers []int32) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(numbers), "[]"), " ", ",")
}

// Number reads a number of the command line.
func Number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return n
}
