package edge

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/edge/source"
)

// address returns where the request comes from: the peer, or, if that is a
// trusted proxy, the last address of X-Forwarded-For that is not one. Every
// proxy appends the peer it sees, so that what stands left of an untrusted
// address is only said by it.
func (x *exchange) address() netip.Addr {
	if x.addr.IsValid() {
		return x.addr
	}
	peer, err := netip.ParseAddrPort(x.req.RemoteAddr)
	if err != nil {
		return netip.Addr{} // not TCP
	}
	x.addr = peer.Addr().Unmap().WithZone("")
	if len(x.edge.cfg.TrustedProxies) == 0 || !x.edge.trusts(x.addr) {
		return x.addr
	}
	lines := x.req.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var last string
			if j := strings.LastIndexByte(rest, ','); j >= 0 {
				rest, last = rest[:j], rest[j+1:]
			} else {
				last, more = rest, false
			}
			addr, ok := parseForwarded(strings.TrimSpace(last))
			if !ok {
				return x.addr
			}
			if x.addr = addr; !x.edge.trusts(addr) {
				return addr
			}
		}
	}
	return x.addr
}

// parseForwarded reads an address as proxies write it: bare, or with a port.
func parseForwarded(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

func (e *Edge) trusts(a netip.Addr) bool {
	for _, p := range e.cfg.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// withinAddressRate refuses a request of an address that sends too many.
func (x *exchange) withinAddressRate() bool {
	if x.edge.addresses == nil {
		return true
	}
	if wait := x.edge.addresses.take(x.start, x.address()); wait > 0 {
		return x.failAfter(codeAddressRate, "too many requests come from this address", wait)
	}
	return true
}

// addressTable has a token bucket for each address that was seen of late. It
// has two generations: an address that is seen moves to the young one, and
// when that is full it becomes the old one, and what was in the old one is
// forgotten. So the table is bounded, and the longest unseen leave first.
// A forgotten address begins with a full bucket.
type addressTable struct {
	rate       source.Rate
	most       int // entries of one generation
	mu         sync.Mutex
	young, old map[netip.Addr]*rate.Limiter
}

// newAddressTable returns nil if there is no limit.
func newAddressTable(r source.Rate, most int) *addressTable {
	if r.PerSecond <= 0 {
		return nil
	}
	if r.Burst <= 0 {
		r.Burst = max(1, int(r.PerSecond))
	}
	return &addressTable{rate: r, most: max(1, most/2), young: map[netip.Addr]*rate.Limiter{}}
}

// take admits a request and returns zero, or returns how long to wait.
func (t *addressTable) take(now time.Time, a netip.Addr) time.Duration {
	if a.Is6() {
		// A customer has a /64 at least: by address there would be no limit.
		p, _ := a.Prefix(64)
		a = p.Addr()
	}
	limiter := t.limiter(a)
	if limiter.AllowN(now, 1) {
		return 0
	}
	missing := 1 - limiter.TokensAt(now)
	return max(time.Duration(missing/t.rate.PerSecond*float64(time.Second)), 1)
}

func (t *addressTable) limiter(a netip.Addr) *rate.Limiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.young[a]
	if l != nil {
		return l
	}
	if l = t.old[a]; l == nil {
		l = rate.NewLimiter(rate.Limit(t.rate.PerSecond), t.rate.Burst)
	}
	if len(t.young) >= t.most {
		t.old, t.young = t.young, make(map[netip.Addr]*rate.Limiter, t.most)
	}
	t.young[a] = l
	return l
}

func (t *addressTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.young) + len(t.old)
}
