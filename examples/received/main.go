// Command received prints what simulated vendors have received: how much of each
// kind and name, and an example of the first of them.
//
//	go run ./examples/received http://127.0.0.1:41231 http://127.0.0.1:41232
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// received is what a simulated vendor says of itself.
type received struct {
	Vendor string
	Counts struct{ Calls, Taken, Duplicates, Refused, Throttled, Dropped int }
	ByName []struct {
		Kind, Name string
		Items      int
		Newest     struct{ Body json.RawMessage }
	} `json:"by_name"`
}

func ask(url string) (r received, err error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return r, err
	}
	request.Header.Set("Accept", "application/json")
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return r, fmt.Errorf("%s answers %s", url, response.Status)
	}
	return r, json.NewDecoder(response.Body).Decode(&r)
}

// most is how many names of a vendor are printed.
const most = 8

func main() {
	for _, url := range os.Args[1:] {
		r, err := ask(url)
		if err != nil {
			fmt.Fprintln(os.Stderr, "received:", err)
			os.Exit(1)
		}
		c := r.Counts
		fmt.Printf("%s: %d calls, %d items taken, %d duplicates, %d refused, %d calls throttled\n",
			r.Vendor, c.Calls, c.Taken, c.Duplicates, c.Refused, c.Throttled)
		for i, n := range r.ByName {
			if i == most {
				fmt.Printf("  and %d other names\n", len(r.ByName)-most)
				break
			}
			fmt.Printf("  %6d %s %.60s\n", n.Items, n.Kind, n.Name)
		}
		if len(r.ByName) > 0 {
			var example bytes.Buffer
			if json.Indent(&example, r.ByName[0].Newest.Body, "  ", "  ") == nil {
				fmt.Printf("  such as %.900s\n", example.String())
			}
		}
		fmt.Println()
	}
}
