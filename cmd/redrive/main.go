// Command redrive is the Lambda function that an operator invokes by hand to
// empty a dead letter queue into a backup and replay it. See package
// internal/function/redrive for its environment and for what it is invoked with.
package main

import (
	"fmt"
	"os"

	"github.com/eventsluice/sluice/internal/function/redrive"
)

func main() {
	if err := redrive.Main(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
