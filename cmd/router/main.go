// Command router is the Lambda function that reads events from a Kinesis stream
// and hands them to the destinations that the rules name. See package
// internal/function/router for its environment.
package main

import (
	"fmt"
	"os"

	"github.com/eventsluice/sluice/internal/function/router"
)

func main() {
	if err := router.Main(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
