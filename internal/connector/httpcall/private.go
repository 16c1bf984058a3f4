package httpcall

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// ErrPrivate is the error of a connection that RefusePrivate refused.
var ErrPrivate = errors.New("private address")

// refused are the ranges that a destination on the public Internet cannot be
// in. Sources: the IANA IPv4 and IPv6 special-purpose address registries (RFC
// 6890 and updates; read 2026-11). Metadata services of clouds are in
// 169.254.0.0/16, 100.64.0.0/10 (Alibaba) and fc00::/7 (fd00:ec2::254).
var refused = prefixes(
	"0.0.0.0/8",        // this host on this network; Linux connects 0.0.0.0 to itself
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // shared address space of carriers
	"127.0.0.0/8",      // loopback
	"169.254.0.0/16",   // link-local
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // protocol assignments
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // 6to4 relays, deprecated
	"192.168.0.0/16",   // private
	"198.18.0.0/15",    // benchmarks
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, broadcast
	"168.63.129.16/32", // Azure's virtual host, metadata in a public range
	"::/128",           // unspecified
	"::1/128",          // loopback
	"100::/64",         // discard
	"2001::/23",        // protocol assignments, Teredo among them
	"2001:db8::/32",    // documentation
	"3fff::/20",        // documentation
	"5f00::/16",        // segment routing
	"64:ff9b:1::/48",   // NAT64 for local use
	"fc00::/7",         // unique local
	"fe80::/10",        // link-local
	"fec0::/10",        // site-local, deprecated
	"ff00::/8",         // multicast
)

// embedded are the IPv6 ranges whose addresses carry an IPv4 address, and at
// which byte: a gateway on the way sends the packet there.
var embedded = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible, deprecated
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // IPv4-translated (SIIT, RFC 2765)
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4 (RFC 3056)
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// Private reports whether an address is one that a destination on the public
// Internet cannot have: this machine's, the own network's, a metadata
// service's, or an IPv6 address that leads to such an IPv4 address.
func Private(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, prefix := range refused {
		if prefix.Contains(addr) {
			return true
		}
	}
	if addr.Is6() {
		bytes := addr.As16()
		for _, form := range embedded {
			if form.prefix.Contains(addr) {
				return Private(netip.AddrFrom4([4]byte(bytes[form.at:])))
			}
		}
	}
	return false
}

// RefusePrivate is a net.Dialer.Control that refuses private addresses. It
// sees the address that the socket is about to connect to, after the name was
// resolved, so a name that resolves to another address the second time (DNS
// rebinding) does not get past it.
func RefusePrivate(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: not an address", ErrPrivate)
	}
	if Private(addr.Addr()) {
		return fmt.Errorf("%w %s", ErrPrivate, addr.Addr())
	}
	return nil
}
