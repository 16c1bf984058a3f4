package edge

import (
	"net/netip"
	"strings"
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
