package connector_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/destination"
	function "github.com/eventsluice/sluice/internal/function/connector"
	"github.com/eventsluice/sluice/internal/simulator"
)

// short is the time of an invocation with little of it to wait in.
const short = 2 * time.Second

// Every vendor that can be simulated gets events from a function as from one
// machine: the settings are the same, and what the vendor refuses waits or is
// buried.
func TestAFunctionDeliversToEveryVendor(t *testing.T) {
	t.Parallel()
	for _, kind := range simulator.Kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			vendor, err := simulator.New(kind)
			if err != nil {
				t.Fatal(err)
			}
			vendor.Unlimited()
			server := httptest.NewServer(vendor)
			t.Cleanup(server.Close)
			settings := vendor.Settings(server.URL)
			r := openRig(t)
			environ := append(env("SETTINGS="+string(settings)), "CONNECTOR="+kind)
			r.f, err = function.Build(t.Context(), r.aws.SDK(), environ, destination.Catalog(), slog.New(slog.NewJSONHandler(r.log, nil)), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.f.Close(); err != nil {
					t.Error(err)
				}
			}()
			n := 0
			batch := func() string {
				var events []string
				for range 3 {
					n++
					events = append(events, fmt.Sprintf(`{"id":"0198f3e0-0000-7000-8000-%012d","type":"track","name":"bought","user_id":"u%d","received_at":"%s",`+
						`"data":{"total":%d},"context":{"traits":{"email":"u%d@example.com"}}}`, n, n, time.Now().UTC().Format(time.RFC3339Nano), n, n))
				}
				return many(events...)
			}
			c, err := r.invoke(batch())
			if err != nil || c.Delivered != 3 {
				t.Fatalf("%v, %+v, %+v\n%s", err, c, r.letters(dead), r.log)
			}
			if items := vendor.Received(); len(items) < 3 {
				t.Errorf("the vendor has %d items", len(items))
			}
			vendor.Trouble(simulator.Trouble{Away: true})
			if c, err = r.invokeWithin(short, batch()); err != nil || c.Delivered != 0 || c.Waiting != 3 || len(r.letters(retry)) != 3 {
				t.Errorf("away: %v, %+v", err, c)
			}
			vendor.Trouble(simulator.Trouble{Denied: true})
			c, err = r.invokeWithin(short, batch())
			switch kind {
			case "ga4": // Google says yes to everything
				if err != nil || c.Delivered != 3 {
					t.Errorf("denied: %v, %+v", err, c)
				}
			default:
				if err != nil || c.Delivered != 0 || c.Dead != 0 || c.Waiting != 3 {
					t.Errorf("denied: %v, %+v", err, c)
				}
			}
			if strings.Contains(r.log.String(), "panic") {
				t.Errorf("log: %s", r.log)
			}
		})
	}
}
