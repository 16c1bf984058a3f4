package source

import (
	"fmt"
	"net/netip"
	"strings"
)

// AddressListed reports whether an address is in the ranges of the key; every
// address is if it has none. An IPv4 address must not be mapped into IPv6.
func (k *Key) AddressListed(a netip.Addr) bool {
	if len(k.prefixes) == 0 {
		return true
	}
	for _, p := range k.prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// parsePrefix reads a range of addresses: 10.0.0.0/8, or one address.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err == nil && a.Zone() == "" && !a.Is4In6() {
			return netip.PrefixFrom(a, a.BitLen()), nil
		}
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is not a range of addresses: want 10.0.0.0/8, 2001:db8::/32 or one address", s)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is IPv4 in IPv6: write the IPv4 range itself", s)
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits beyond its length: want %s", s, p.Masked())
	}
	return p, nil
}
