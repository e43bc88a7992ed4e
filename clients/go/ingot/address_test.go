package ingot

import (
	"strings"
	"testing"
)

func TestAnAddressIsReadAsTheCommandLineReadsIt(t *testing.T) {
	for text, want := range map[string]address{
		"localhost":                  {target: "localhost:50051", local: true},
		"LOCALHOST:1":                {target: "LOCALHOST:1", local: true},
		"127.0.0.9:50052":            {target: "127.0.0.9:50052", local: true},
		"media.example":              {target: "media.example:50051"},
		"ingot://media.example:7/":   {target: "media.example:7"},
		"https://media.example":      {target: "media.example:443", tls: true},
		"HTTPS://media.example:8443": {target: "media.example:8443", tls: true},
		"::1":                        {target: "[::1]:50051", local: true},
		"[::1]:7":                    {target: "[::1]:7", local: true},
		"https://[2001:db8::1]":      {target: "[2001:db8::1]:443", tls: true},
		"unix:/run/ingot":            {target: "unix:/run/ingot", local: true},
	} {
		if got, err := parseAddress(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestAWrongAddressIsRefusedByItsName(t *testing.T) {
	for _, text := range []string{
		"", "unix:", "http://localhost", "ftp://localhost", "localhost:", "localhost:0", "localhost:65536",
		"localhost:http", "a b", "user@localhost", "localhost/path", "https://", "a:1:2", "[::1", "[media]:1",
	} {
		_, err := parseAddress(text)
		if err == nil || !strings.Contains(err.Error(), `"`+text+`"`) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
