package ingot

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	connectTimeout          = 5 * time.Second
	defaultReconnectTimeout = time.Minute
	// A page of 1000 media items can be larger than gRPC's default of 4 MiB.
	maxResponseBytes = 64 << 20
)

// Methods that may be repeated while the server is unavailable or busy; with RESOURCE_EXHAUSTED, it
// says when the call may be repeated, if at all. Ingest and Convert are safe because
// of their request_id. DeleteMedia is missing, because a second call would fail with
// MEDIA_NOT_FOUND. https://github.com/grpc/proposal/blob/master/A6-client-retries.md
const serviceConfig = `{"methodConfig": [{
	"name": [
		{"service": "ingot.v1.IngestService", "method": "Ingest"},
		{"service": "ingot.v1.IngestService", "method": "Convert"},
		{"service": "ingot.v1.IngestService", "method": "QueryUpload"},
		{"service": "ingot.v1.JobService", "method": "GetJob"},
		{"service": "ingot.v1.JobService", "method": "ListJobs"},
		{"service": "ingot.v1.JobService", "method": "CancelJob"},
		{"service": "ingot.v1.MediaService", "method": "GetMedia"},
		{"service": "ingot.v1.MediaService", "method": "ListMedia"},
		{"service": "ingot.v1.MediaService", "method": "CreateDownloadUrl"},
		{"service": "ingot.v1.SourceService", "method": "ListSources"}
	],
	"retryPolicy": {
		"maxAttempts": 5,
		"initialBackoff": "0.1s",
		"maxBackoff": "2s",
		"backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
	}
}]}`

// An Option of [NewClient].
type Option func(*settings)

type settings struct {
	token            string
	plaintextToken   bool
	caFile           string
	tls              *tls.Config
	reconnectTimeout time.Duration
	dialOptions      []grpc.DialOption
}

// WithToken sends a token with every call, as "authorization: Bearer TOKEN". Without TLS it is sent
// on this machine alone, unless [WithPlaintextToken] allows more.
func WithToken(token string) Option {
	return func(s *settings) { s.token = token }
}

// WithPlaintextToken allows to send the token to another machine without TLS, in a trusted network.
func WithPlaintextToken() Option {
	return func(s *settings) { s.plaintextToken = true }
}

// WithCAFile trusts the authorities in a PEM file, instead of those that the system trusts. The
// address must be an https one.
func WithCAFile(path string) Option {
	return func(s *settings) { s.caFile = path }
}

// WithTLS turns on TLS for every form of address, for example with a certificate of the client.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.tls = config }
}

// WithReconnectTimeout limits how long a watch or a download tries to reconnect after it has lost
// its connection. The default is one minute.
func WithReconnectTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.reconnectTimeout = timeout }
}

// WithDialOptions passes options to gRPC, such as interceptors and handlers for tracing.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dialOptions = append(s.dialOptions, options...) }
}

func connect(text string, options []Option) (*grpc.ClientConn, settings, error) {
	set := settings{reconnectTimeout: defaultReconnectTimeout}
	for _, apply := range options {
		apply(&set)
	}
	server, err := parseAddress(text)
	if err != nil {
		return nil, set, err
	}
	transport, err := transportCredentials(server, set)
	if err != nil {
		return nil, set, err
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes)),
		// A server that vanished without closing the connection is noticed within 40 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second,
			},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithChainUnaryInterceptor(translateUnary),
		grpc.WithChainStreamInterceptor(translateStream),
	}
	if set.token != "" {
		encrypted := transport.Info().SecurityProtocol == "tls"
		if !encrypted && !server.local && !set.plaintextToken {
			return nil, set, fmt.Errorf("the token is not sent, because the connection to %s is not encrypted: "+
				"use https://HOST[:PORT]; or, if the network is trusted, WithPlaintextToken", server.target)
		}
		dial = append(dial, grpc.WithPerRPCCredentials(bearer{token: set.token, encrypted: encrypted}))
	}
	connection, err := grpc.NewClient(server.target, append(dial, set.dialOptions...)...)
	return connection, set, err
}

func transportCredentials(server address, set settings) (credentials.TransportCredentials, error) {
	switch {
	case set.caFile != "" && set.tls != nil:
		return nil, errors.New("give either WithCAFile or WithTLS, not both")
	case set.caFile != "" && !server.tls:
		return nil, errors.New("an authority is for TLS: give the address of the server as https://HOST[:PORT]")
	case set.tls != nil:
		return credentials.NewTLS(set.tls), nil
	case !server.tls:
		return insecure.NewCredentials(), nil
	case set.caFile == "":
		return credentials.NewTLS(nil), nil
	}
	pem, err := os.ReadFile(set.caFile)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificates in PEM format", set.caFile)
	}
	return credentials.NewTLS(&tls.Config{RootCAs: authorities}), nil
}

// A bearer adds the token to every call.
type bearer struct {
	token     string
	encrypted bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity lets gRPC refuse to send the token if the connection is not what it was
// checked to be.
func (b bearer) RequireTransportSecurity() bool {
	return b.encrypted
}
