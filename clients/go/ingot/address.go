package ingot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	defaultPort    = 50051
	defaultTLSPort = 443
	addressForms   = "give HOST, HOST:PORT, https://HOST[:PORT] for TLS, or unix:PATH"
)

// An address says where a server is reached, and how.
type address struct {
	target string // what gRPC connects to: HOST:PORT or unix:PATH
	tls    bool
	local  bool // whether the connection stays on this machine: a Unix socket, or a loopback address
}

// parseAddress reads an address as the command line and the Python client do.
func parseAddress(text string) (address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path == "" {
			return address{}, fmt.Errorf("%q has no path: %s", text, addressForms)
		}
		return address{target: text, local: true}, nil
	}
	scheme, place, hasScheme := strings.Cut(text, "://")
	if !hasScheme {
		scheme, place = "ingot", text
	} else {
		scheme, place = strings.ToLower(scheme), strings.TrimSuffix(place, "/")
	}
	port := defaultPort
	switch scheme {
	case "ingot":
	case "https":
		port = defaultTLSPort
	case "http":
		return address{}, fmt.Errorf("%q: without TLS, the address is ingot://HOST:PORT", text)
	default:
		return address{}, fmt.Errorf("%q is not the address of an Ingot server: %s", text, addressForms)
	}
	host, port, err := splitPlace(place, port)
	if err != nil {
		return address{}, fmt.Errorf("%q is not the address of an Ingot server: %w", text, err)
	}
	target := net.JoinHostPort(host, strconv.Itoa(port))
	return address{target: target, tls: scheme == "https", local: isLoopback(host)}, nil
}

// splitPlace returns the host without brackets, and the port that follows it or else the given one.
func splitPlace(place string, port int) (string, int, error) {
	if ip, err := netip.ParseAddr(place); err == nil {
		return ip.String(), port, nil
	}
	bracketed := strings.HasPrefix(place, "[")
	host, colon := place, strings.LastIndex(place, ":")
	if colon > strings.LastIndex(place, "]") {
		number, err := strconv.ParseUint(place[colon+1:], 10, 16)
		if err != nil || number == 0 {
			return "", 0, fmt.Errorf("the port %q is not between 1 and 65535", place[colon+1:])
		}
		host, port = place[:colon], int(number)
	}
	if bracketed {
		ip, err := netip.ParseAddr(strings.TrimSuffix(host[1:], "]"))
		if err != nil || !ip.Is6() || !strings.HasSuffix(host, "]") {
			return "", 0, errors.New("an IPv6 address in brackets is expected")
		}
		return ip.String(), port, nil
	}
	if host == "" || strings.ContainsAny(host, " :/?#@[]") {
		return "", 0, errors.New(addressForms)
	}
	return host, port, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}
