package webhook

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// special are ranges that are not of the public Internet and that netip does not name (IANA's special-purpose
// registries).
var special = func() (all []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10",
	} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}()

// refusePrivate looks at the address that is dialed, so after the name was resolved, and at that of every redirect: a
// name that leads to a machine of the worker's own network must not make the worker send there.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the address %q can't be read", address)
	}
	if private(at.Addr()) {
		return fmt.Errorf("its address %v is private: allow=private sends there all the same", at.Addr())
	}
	return nil
}

func private(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() ||
		slices.ContainsFunc(special, func(prefix netip.Prefix) bool { return prefix.Contains(ip) })
}
