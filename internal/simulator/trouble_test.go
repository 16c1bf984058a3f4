package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fine is a call for each vendor that is taken, with the nth of its items.
func fine(t *testing.T, kind string, n int) request {
	t.Helper()
	id := fmt.Sprint("id-", n)
	switch kind {
	case "mixpanel":
		return request{path: "/import?strict=1", body: asked([]any{signup(id)}), header: basic(mixpanelToken, "")}
	case "hubspot":
		return request{path: hubspotSend, body: inputs(completion(id)), header: map[string]string{"Authorization": "Bearer " + hubspotToken}}
	case "ga4":
		return request{path: ga4Collect, body: hit([]any{ga4Event(id)})}
	case "gtm":
		return request{path: "/data", body: asked(object{"event_name": "x", "event_id": id})}
	case "mailchimp":
		r := put(id + "@example.com")
		r.header = basic("any", mailchimpKey)
		return r
	case "webhook":
		return signed(id, `{"name":"x"}`, time.Now())
	case "amplitude":
		return upload([]any{amplitudeEvent(id)})
	case "slack":
		return message("text", id)
	case "clickhouse":
		return insert(clickhouseLine("id", id))
	}
	t.Fatalf("no call for %s", kind)
	return request{}
}

// everywhere runs a test for each vendor in a bubble.
func everywhere(t *testing.T, test func(t *testing.T, kind string, v *vendor)) {
	t.Helper()
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC))) // Google takes no events of 2000
				test(t, kind, newVendor(t, kind, nil))
			})
		})
	}
}

func TestKindsAreThoseOfTheDocumentation(t *testing.T) {
	t.Parallel()
	if got, want := Kinds(), []string{"amplitude", "clickhouse", "ga4", "gtm", "hubspot", "mailchimp", "mixpanel", "slack", "webhook"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if _, err := New("other"); err == nil || !strings.Contains(err.Error(), "amplitude, clickhouse") {
		t.Errorf("%v", err)
	}
}

func TestSettingsLeadToTheVendor(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"amplitude": {"api_key", "endpoint"}, "ga4": {"api_secret", "endpoint", "measurement_id"}, "gtm": {"url"},
		"hubspot": {"access_token", "endpoint", "mapping"}, "mailchimp": {"api_key", "endpoint", "list_id"}, "mixpanel": {"endpoint", "token"},
		"slack": {"url"}, "webhook": {"allow_private", "secret", "url"}, "clickhouse": {"password", "url", "user"},
	}
	for _, kind := range Kinds() {
		v, err := New(kind)
		if err != nil || v.Kind() != kind {
			t.Fatal(kind, err)
		}
		var settings map[string]any
		if err := json.Unmarshal(v.Settings("http://127.0.0.1:9001/"), &settings); err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for name := range settings {
			names = append(names, name)
		}
		slices.Sort(names)
		if !slices.Equal(names, want[kind]) {
			t.Errorf("%s: settings %v, want %v", kind, names, want[kind])
		}
		if address, _ := settings["endpoint"].(string); settings["endpoint"] != nil && address != "http://127.0.0.1:9001" {
			t.Errorf("%s: endpoint %q", kind, address)
		}
		if address, _ := settings["url"].(string); settings["url"] != nil && !strings.HasPrefix(address, "http://127.0.0.1:9001") {
			t.Errorf("%s: url %q", kind, address)
		}
	}
}

func TestAVendorThatIsWellTakesTheCall(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, kind string, v *vendor) {
		got := v.call(t, fine(t, kind, 1))
		if got.status/100 != 2 || len(v.Received()) != 1 || len(v.Dropped()) != 0 {
			t.Errorf("%+v, received %v, dropped %v", got, v.Received(), v.Dropped())
		}
		if got := v.Counts(); got != (Counts{Calls: 1, Taken: 1}) {
			t.Errorf("counts %+v", got)
		}
	})
}

func TestAwayIsAPageOfTheEdge(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, kind string, v *vendor) {
		v.Trouble(Trouble{Away: true})
		got := v.call(t, fine(t, kind, 1))
		got.wants(t, 503, "<html>")
		if got.header.Get("Content-Type") != "text/html; charset=utf-8" || len(v.Received()) > 0 {
			t.Errorf("%+v, received %v", got, v.Received())
		}
		v.Trouble(Trouble{})
		if got := v.call(t, fine(t, kind, 1)); got.status/100 != 2 {
			t.Errorf("afterwards: %+v", got)
		}
	})
}

func TestDeniedIsAsTheVendorRefusesCredentials(t *testing.T) {
	t.Parallel()
	want := map[string]struct {
		status int
		says   string
	}{
		"amplitude": {400, "Invalid API key"}, "ga4": {204, ""}, "gtm": {403, "<html>"}, "hubspot": {401, "INVALID_AUTHENTICATION"},
		"mailchimp": {401, "API Key Invalid"}, "mixpanel": {401, "Invalid credentials"}, "slack": {403, "invalid_token"}, "webhook": {401, "signature"},
		"clickhouse": {403, "Code: 516. DB::Exception: "},
	}
	everywhere(t, func(t *testing.T, kind string, v *vendor) {
		v.Trouble(Trouble{Denied: true})
		v.call(t, fine(t, kind, 1)).wants(t, want[kind].status, want[kind].says)
		if len(v.Received()) > 0 {
			t.Errorf("received %v", v.Received())
		}
	})
}

func TestThrottleIsAsTheVendorSaysIt(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, kind string, v *vendor) {
		v.Trouble(Trouble{Throttle: 1, Wait: 7 * time.Second})
		got := v.call(t, fine(t, kind, 1))
		busy := kind == "clickhouse" && got.status == 500 && strings.HasPrefix(got.body, "Code: 2") // 202 or 252
		if got.status != 429 && !busy && !(kind == "mailchimp" && got.status == 403 && got.body == "") {
			t.Errorf("%+v", got)
		}
		says := slices.Contains([]string{"gtm", "slack", "webhook"}, kind)
		if after := got.header.Get("Retry-After"); says != (after == "7") || !says && after != "" {
			t.Errorf("Retry-After %q", after)
		}
		if c := v.Counts(); c.Throttled != 1 || c.Taken != 0 {
			t.Errorf("counts %+v", c)
		}
	})
}

func TestHangAnswersNobodyAndDoesNothing(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, kind string, v *vendor) {
		v.Trouble(Trouble{Hang: true})
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := v.try(ctx, fine(t, kind, 1))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		synctest.Wait()
		if c := v.Counts(); c != (Counts{Calls: 1}) || v.open.Load() != 0 {
			t.Errorf("counts %+v, %d open", c, v.open.Load())
		}
	})
}

// The call is carried out, and the connection cut before the answer.
func TestLoseCarriesTheCallOut(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, kind string, v *vendor) {
		v.Trouble(Trouble{Lose: 1})
		if got, err := v.try(t.Context(), fine(t, kind, 1)); err == nil {
			t.Errorf("an answer: %+v", got)
		}
		synctest.Wait()
		if c := v.Counts(); c.Lost != 1 || c.Taken != 1 {
			t.Errorf("counts %+v", c)
		}
		// Once more: it is there twice where nobody looks for duplicates.
		v.Trouble(Trouble{})
		v.call(t, fine(t, kind, 1))
		dedups := slices.Contains([]string{"amplitude", "clickhouse", "hubspot", "mixpanel", "webhook"}, kind)
		if n := len(v.Received()); dedups != (n == 1) || n > 2 {
			t.Errorf("%d taken", n)
		}
	})
}

func TestDelayTakesItsTime(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, kind string, v *vendor) {
		v.Trouble(Trouble{Delay: 3 * time.Second})
		start := time.Now()
		if got := v.call(t, fine(t, kind, 1)); got.status/100 != 2 || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %+v", time.Since(start), got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := v.try(ctx, fine(t, kind, 2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
		if c := v.Counts(); c.Taken != 1 {
			t.Errorf("counts %+v", c)
		}
	})
}

func TestStatusIsAnswered(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, kind string, v *vendor) {
		for _, status := range []int{200, 204, 302, 400, 401, 403, 404, 408, 413, 423, 429, 477, 500, 502, 504, 521, 999} {
			v.Trouble(Trouble{Status: status})
			got := v.call(t, fine(t, kind, 1))
			if got.status != status && !(kind == "mailchimp" && status == 429 && got.status == 403) {
				t.Errorf("%d: %+v", status, got)
			}
		}
		for n, status := range []int{-1, 0, 100, 101, 199, 1000} { // no answer can have these
			v.Trouble(Trouble{Status: status})
			if got := v.call(t, fine(t, kind, 1+n)); got.status/100 != 2 {
				t.Errorf("%d: %+v", status, got)
			}
		}
	})
}

// Which calls are hit is decided by the seed and the number of the call.
func TestSharesAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) string {
		v, err := New("gtm")
		if err != nil {
			t.Fatal(err)
		}
		d := &vendor{v, client(t, v), nil}
		v.Trouble(Trouble{Seed: seed, Throttle: 0.3, Lose: 0.2})
		var fates strings.Builder
		for range 400 {
			got, err := d.try(t.Context(), request{path: "/data", body: "{}"})
			switch {
			case err != nil:
				fates.WriteByte('L')
			case got.status == 429:
				fates.WriteByte('T')
			default:
				fates.WriteByte('.')
			}
		}
		return fates.String()
	}
	first, second, other := run(1), run(1), run(2)
	if first != second || first == other {
		t.Errorf("%s\n%s\n%s", first, second, other)
	}
	if n := strings.Count(first, "T"); n < 90 || n > 150 {
		t.Errorf("%d of 400 throttled, want about 120", n)
	}
	if n := strings.Count(first, "L"); n < 35 || n > 80 { // of those that were not
		t.Errorf("%d of 400 lost, want about 56", n)
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t, kind, nil)
			trouble := Trouble{Seed: 7, Throttle: 0.1, Lose: 0.1, Refuse: func(id string) bool { return strings.HasSuffix(id, "3") }}
			v.Trouble(trouble)
			calls := make([]request, 200)
			for i := range calls {
				calls[i] = fine(t, kind, i%100)
			}
			var all sync.WaitGroup
			for worker := range 8 {
				all.Go(func() {
					for i := worker; i < len(calls); i += 8 {
						_, _ = v.try(t.Context(), calls[i]) // some are lost
						_ = v.Received()
						_ = v.Counts()
						if i == 100 {
							v.Trouble(trouble)
						}
					}
				})
			}
			all.Wait()
			c := v.Counts()
			if got := c.Taken + c.Duplicates + c.Refused + c.Dropped + c.Throttled; c.Calls != 200 || got != 200 || int(c.Taken) != len(v.Received()) {
				t.Errorf("counts %+v add up to %d", c, got)
			}
		})
	}
}
