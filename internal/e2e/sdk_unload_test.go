package e2e

import (
	"fmt"
	"net/url"
	"testing"
	"time"
)

// lastEvents is how many pages end, each with an event at its end: half of them
// are closed, and half are left for another page. Of SDKs that do not promise
// that their last events arrive, there are fewer.
const lastEvents, lastEventsUnpromised = 30, 10

// endOfPage is a way to send the last event of a page.
type endOfPage struct {
	name string
	// page is its address, and last sends event n in it.
	page func(r *sdkRun) string
	last string
	// promised: all arrive. Of SDKs that do not promise it the number is told.
	promised bool
}

// testLastEvents ends pages at once after their last event, and counts what
// arrives.
func testLastEvents(t *testing.T, g *sdkGateway, p *pages, c *chromium) {
	snippet := func(r *sdkRun) string {
		init := fmt.Sprintf("sluice('init', {key: %q})", r.key)
		return p.origin + "/snippet/?" + url.Values{"gateway": {r.URL}, "calls": {init}}.Encode()
	}
	// opened opens an SDK and keeps it, so that the last event is one call.
	opened := func(adapter, options string) func(r *sdkRun) string {
		path := p.bundle(t, adapter, nil)
		return func(r *sdkRun) string {
			return p.origin + path + "?" + url.Values{"open": {fmt.Sprintf(`{"host":%q,"key":%q%s}`, r.URL, r.key, options)}}.Encode()
		}
	}
	const call = `sdk.track({ event: 'Last', properties: { n: %d } }, () => 0)`
	atTheEnd := fmt.Sprintf("addEventListener('pagehide', () => %s)", call)
	for _, end := range []endOfPage{
		{name: "the snippet", page: snippet, last: `sluice('track', 'Last', { n: %d })`, promised: true},
		{name: "the snippet, in the last moment", page: snippet, last: `addEventListener('visibilitychange', () => sluice('track', 'Last', { n: %d }))`, promised: true},
		{name: "sendBeacon", page: opened("raw", `,"how":"beacon string"`), last: atTheEnd, promised: true},
		{name: "fetch with keepalive", page: opened("raw", `,"how":"fetch keepalive"`), last: atTheEnd, promised: true},
		{name: "analytics-next", page: opened("segment", ""), last: call},
		{name: "analytics-next, batching", page: opened("segment", `,"strategy":"batching"`), last: call},
		{name: "analytics-js of RudderStack", page: opened("rudder", ""), last: call},
		{name: "analytics-js of RudderStack, beacons", page: opened("rudder", `,"useBeacon":true`), last: call},
	} {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			pages := lastEventsUnpromised
			if end.promised {
				pages = lastEvents
			}
			r := g.newRun(t, true)
			v := c.visitor(t)
			tb := v.open(end.page(r))
			for n := 1; n <= pages; n++ {
				tb.eval("window.opened && opened.then(sdk => { window.sdk = sdk }, () => 0)", nil)
				last := fmt.Sprintf(end.last, n)
				if n%2 == 0 {
					tb.eval(last+"; 0", nil)
					tb.close()
					if n < pages {
						tb = v.open(end.page(r))
					}
				} else {
					tb.leave(last + "; location.href = '/empty/'")
					tb.goTo(end.page(r))
				}
			}
			if end.promised {
				g.wantInWarehouse(t, r.wire, r.source, func() int { return pages })
			}
			// What a visit leaves in the storage is sent by the next one, if that
			// stays for a while. So this is a measurement, and takes two seconds
			// at most.
			for deadline := time.Now().Add(2 * time.Second); len(r.taken(t)) < pages && time.Now().Before(deadline); {
				<-time.After(20 * time.Millisecond)
			}
			t.Logf("%d of %d last events arrived", len(r.taken(t)), pages)
			if got := len(g.wantInWarehouse(t, r.wire, r.source, func() int { return 0 })); end.promised && got != pages {
				t.Errorf("%d events arrived, of %d", got, pages)
			}
		})
	}
}
