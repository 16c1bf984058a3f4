// Command connector is the Lambda function that delivers events to one
// destination. See package internal/function/connector for what it takes, and
// Settings there for its environment.
package main

import (
	"fmt"
	"os"

	"github.com/eventsluice/sluice/internal/function/connector"
)

func main() {
	if err := connector.Main(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
